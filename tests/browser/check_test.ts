import { assert, assertEquals } from "@std/assert";
import { runDeno } from "../run_deno.ts";

const check = `${import.meta.dirname}/check.ts`;

/** Runs the browser check on a tree of `files`. */
async function checkTree(files: Record<string, string>): Promise<{ code: number; said: string }> {
  const root = await Deno.makeTempDir();
  try {
    for (const [path, text] of Object.entries(files)) {
      await Deno.mkdir(`${root}/${path.slice(0, path.lastIndexOf("/"))}`, { recursive: true });
      await Deno.writeTextFile(`${root}/${path}`, text);
    }
    const { code, err } = await runDeno(["run", "-A", check, root]);
    return { code, said: err };
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

Deno.test("the browser check accepts standard WebGPU, and Deno in modules that work with files", async () => {
  const { code, said } = await checkTree({
    "engine/a.ts":
      "export const a = (gpu: GPUDevice): GPUBuffer => gpu.createBuffer({ size: 4, usage: GPUBufferUsage.STORAGE });",
    "pipeline/output/file.ts":
      "export const b = (p: string): Promise<boolean> => Deno.stat(p).then((info) => info.isFile);",
  });
  assertEquals([code, said], [0, ""]);
});

Deno.test("the browser check rejects Deno, non-standard WebGPU, and other errors beside an allowed Deno", async () => {
  const { code, said } = await checkTree({
    "kernels/deno.ts": 'export const a: Promise<Uint8Array> = Deno.readFile("x");',
    "kernels/native.ts":
      'export const b = (a: GPUAdapter): Promise<GPUDevice> => a.requestDevice({ requiredFeatures: ["shader-f64"] });',
    "pipeline/output/file.ts": 'export const c: number = "" + Deno.pid;',
  });
  assertEquals(code, 1);
  for (const expected of ["kernels/deno.ts:1:39", "kernels/native.ts:1:", "not assignable to type 'number'"]) {
    assert(said.includes(expected), `${expected} is not in:\n${said}`);
  }
  assert(said.includes("no Deno): 3"), said);
});
