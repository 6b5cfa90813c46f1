/** The tasks `wgsl` and `bench:gpu-model`: commands, though bluerose lists neither. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { Command } from "../../cli/command.ts";
import { command as gpuModel } from "../../cli/gpu_model.ts";
import { runCommand } from "../../cli/run_command.ts";
import { command as wgsl } from "../../cli/wgsl.ts";
import { said, temporaryFolder } from "./running.ts";

const call = async (command: Command, args: readonly string[]) => {
  let code = 0;
  const texts = await said(async () => void (code = await runCommand("deno task it", args, () => ({ command }))));
  return { code, ...texts };
};

Deno.test("bench:gpu-model refuses arguments and files that it cannot use, before it prepares anything", async () => {
  await using folder = await temporaryFolder();
  const path = (name: string) => `${folder.path}/${name}`;
  const files = { "no.json": '{"compiler":"","gpus":[{"gpu":"navi21","kernels":[null]}]}', "no.ts": "export {};" };
  for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(path(name), text);
  for (
    const [args, code, reason] of [
      [["("], 2, 'Cannot use CASES "(" as it is not a regular expression'],
      [["no such case"], 2, "none of the"],
      [["", ","], 2, 'Cannot use the GPU ",": the model knows navi10'],
      [["", "navi21,__proto__"], 2, 'Cannot use the GPU "__proto__"'],
      [["", "navi21", "more"], 2, 'Cannot use the argument "more"'],
      [["--compare"], 2, "Cannot use --compare without a value"],
      [["--compare", path("missing.json")], 1, "as there is no such file"],
      [["--compare", folder.path], 1, "as it is a folder"],
      [["--compare", path("no.json")], 1, "gpus[0].kernels[0] must be an object, not null"],
      [["--cases", path("missing.ts")], 1, "as there is no such file"],
      [["--cases", path("no.ts")], 1, "as it must export cases"],
      [["--json", path("no.json")], 2, "as it exists: choose another name, or add --overwrite"],
      [["--json", `${path("no.json")}/x`], 1, "a part of its path is a file"],
    ] as const
  ) {
    const ran = await call(gpuModel, args);
    assertEquals([ran.code, ran.out], [code, ""], ran.err);
    assertStringIncludes(ran.err, reason);
  }
  assertEquals(await Deno.readTextFile(path("no.json")), files["no.json"]);
});

Deno.test("wgsl refuses what is no pattern or device, and prints kernels as text and as JSON", async () => {
  for (
    const [args, reason] of [
      [[], "Cannot go on without PATTERN"],
      [["("], 'Cannot use PATTERN "(" as it is not a regular expression'],
      [["no such kernel", "nvidia"], "none of the"],
      [["cholesky", "__proto__"], 'Cannot use the device "__proto__": it must be here, nvidia'],
    ] as const
  ) {
    const ran = await call(wgsl, args);
    assertEquals([ran.code, ran.out], [2, ""]);
    assertStringIncludes(ran.err, reason);
  }
  const { code, out } = await call(wgsl, ["cholesky", "nvidia"]);
  assertEquals(code, 0);
  assert(out.startsWith("// "));
  const [first] = JSON.parse((await call(wgsl, ["cholesky", "nvidia", "--json"])).out);
  assertStringIncludes(out, `// ${first.kernel}: first used by ${first.shape}`);
});

Deno.test("the help of these commands names the task that runs them", async () => {
  assertStringIncludes((await call(wgsl, ["--help"])).out, "Usage: deno task wgsl PATTERN [DEVICE]");
  assertStringIncludes((await call(gpuModel, ["--help"])).out, "Usage: deno task bench:gpu-model [CASES] [GPUS]");
});
