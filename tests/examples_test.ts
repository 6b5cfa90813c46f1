/**
 * Runs the examples as a user would, each with the permissions that its own heading names, in an
 * empty folder beside a link to the embedded model.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { runDeno } from "./run_deno.ts";

const root = new URL("../", import.meta.url);

/** What each example must write; those with none print their result. */
const expectedFiles: Readonly<Record<string, readonly string[]>> = {
  "custom_kernel.ts": [],
  "custom_scheduler.ts": ["quadratic.png"],
  "edit_and_compare.ts": ["compare.png"],
  "edit_stack.ts": ["car-0.png", "car-0.5.png", "car-1.png"],
  "export_lora.ts": ["blue-roses.safetensors"],
  "generate.ts": ["roses.png"],
};

Deno.test("every example at the top of examples/ is run here", async () => {
  const names: string[] = [];
  for await (const { name, isFile } of Deno.readDir(new URL("examples/", root))) {
    if (isFile && name.endsWith(".ts")) names.push(name);
  }
  assertEquals(names.sort(), Object.keys(expectedFiles));
});

for (const [name, files] of Object.entries(expectedFiles)) {
  Deno.test(`examples/${name} runs with the permissions that its heading names`, async () => {
    const path = new URL(`examples/${name}`, root);
    const command = (await Deno.readTextFile(path)).match(/^ \* {5}deno run(.*) examples\/.*$/m);
    if (!command) throw new Error("The heading names no command: add a line ` *     deno run … examples/…`");
    const flags = command[1].split(" ").filter((flag) => flag !== "");

    const folder = await Deno.realPath(await Deno.makeTempDir());
    try {
      await Deno.symlink(new URL("models", root), `${folder}/models`);
      const readable = [folder, await Deno.realPath(root)].join(",");
      const allowed = flags.map((flag) => flag === "--allow-read=." ? `--allow-read=${readable}` : flag);
      const { success, out, err } = await runDeno(["run", "--no-prompt", ...allowed, path.pathname], { cwd: folder });
      assert(success, err);
      if (files.length === 0) assert(out !== "", "the example printed nothing");
      for (const file of files) assert((await Deno.stat(`${folder}/${file}`)).size > 0, file);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("the custom kernel's values are those of tanh-approximated GELU", async () => {
  const { out } = await runDeno(["run", "--no-prompt", new URL("examples/custom_kernel.ts", root).pathname]);
  const geluTanh = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  assertEquals(
    out.trim(),
    [-2, -1, 0, 1, 2].map((x) => geluTanh(x).toFixed(4)).join(" "),
  );
});
