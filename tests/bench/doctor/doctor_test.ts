import { assert, assertEquals, assertMatch } from "@std/assert";
import { Budget, byImportance } from "../../../bench/doctor/budget.ts";
import type { Check, CheckResult } from "../../../bench/doctor/check.ts";
import { suspectKernels } from "../../../bench/doctor/check.ts";
import { checks } from "../../../bench/doctor/checks/checks.ts";
import { diagnoseGpu } from "../../../bench/doctor/doctor.ts";
import type { PictureResult } from "../../../bench/doctor/picture.ts";
import { withoutPersonalPaths } from "../../../bench/doctor/privacy.ts";
import type { DoctorReport, Examination } from "../../../bench/doctor/report.ts";
import { sectionsOf } from "../../../bench/doctor/text.ts";
import { judge } from "../../../bench/doctor/verdict.ts";
import { DeviceLostError, NoAdapterError } from "../../../engine/errors.ts";
import { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { TuningError } from "../../../kernels/tuning.ts";
import { openTunedGpu } from "../../../pipeline/tuning_file.ts";
import { typescriptFiles } from "../../boundaries.ts";
import { run, temporaryFolder } from "../../cli/running.ts";
import { withEnvironment } from "../../environment.ts";

const root = new URL("../../../", import.meta.url);

/** The names of all kernels that kernels/ declares. */
async function declaredKernels(): Promise<string[]> {
  const names: string[] = [];
  for (const path of await typescriptFiles(root, "kernels")) {
    const source = await Deno.readTextFile(new URL(path, root));
    for (const [, name] of source.matchAll(/^(?:export )?const \w+ = declareKernel\(\{\n\s+name: "(\w+)"/gm)) {
      names.push(name);
    }
  }
  return names.sort();
}

Deno.test("bluerose doctor --json runs every kernel, draws, finds no fault, and names no personal path", async () => {
  const { code, out, err } = await run("doctor", "--json", "--no-speed");
  assertEquals(code, 0, err);
  const report = JSON.parse(out) as DoctorReport;
  assertEquals(report.problems, []);
  assertEquals(report.checks.filter(({ failure }) => failure !== undefined), []);
  assertEquals(report.picture?.failure, undefined);
  assert(report.picture!.difference! < 0.5, `${report.picture?.difference}`);
  const ran = new Set(report.checks.flatMap(({ kernels }) => kernels));
  const expected = await declaredKernels();
  assert(expected.length > 20, `${expected}`);
  // The kernels for software devices with subgroups are used on no other, and Deno's own WebGPU has
  // no subgroup matrices.
  const unused = ["attention_matrix"];
  if (!report.isSoftware || report.device!.subgroupSize === 0) {
    unused.push("conv2d_3x3", "conv2d_3x3_few_inputs", "conv2d_3x3_few_outputs", "attention_subgroup");
  }
  const unchecked = expected.filter((name) => !ran.has(name) && !unused.includes(name));
  assertEquals(unchecked, [], "kernels that no check runs: add one to bench/doctor/checks/");
  for (const path of [Deno.env.get("HOME"), root.pathname]) {
    if (path !== undefined && path.length > 3) assert(!out.includes(path), path);
  }
  assertMatch(err, /Verdict: .* computes correctly/);
  assert(sectionsOf(report).some(({ title }) => title === "Strategies"));
});

/** Faults that are planted in the WGSL of one kernel, and what its checks are called. */
const faults: readonly { kernel: string; operation: RegExp; from: RegExp; to: string; variant?: string }[] = [
  {
    kernel: "matmul",
    operation: /^(matmul|gated|clamp)/,
    from: /return tile_row_end\(batch, row\)/g,
    to: "return 0.01 + tile_row_end(batch, row)",
  },
  {
    kernel: "matmul",
    variant: " in f16 arithmetic",
    operation: /^matmul/,
    from: /c0_0 \+= vec4f\(h0_0\)/g,
    to: "c0_0 += 1.05 * vec4f(h0_0)",
  },
  { kernel: "clamp", operation: /^(clamp|guide)/, from: /params\.high/g, to: "(params.high - 0.125)" },
  { kernel: "layer_norm", operation: /^(layer|group)Norm/, from: /params\.epsilon/g, to: "(params.epsilon + 0.01)" },
  {
    kernel: "pack_conv_weight",
    operation: /^(packConv|conv2d 1×1|conv2d 7×7)/,
    from: /params\.kernel_width/g,
    to: "1u",
  },
  { kernel: "cholesky_diagonal", operation: /^(cholesky|gram|addProduct)/, from: /fma\(/, to: "no_such_function(" },
];

for (const { kernel, operation, from, to, variant = "" } of faults) {
  Deno.test(`a fault planted in the kernel ${kernel}${variant} is found and named, with what to do`, async () => {
    using gpu = await Gpu.request();
    if (variant !== "" && !gpu.info.features.has("shader-f16")) return;
    const { device } = gpu.context;
    const original = device.createShaderModule;
    let planted = 0;
    device.createShaderModule = (descriptor) => {
      const { label, code } = descriptor;
      if (label !== kernel) return original.call(device, descriptor);
      const broken = code.replace(from, to);
      if (broken !== code) planted++;
      return original.call(device, { label, code: broken });
    };
    const report = await diagnoseGpu(gpu, {
      program: "a test",
      checks: checks.filter((check) => operation.test(check.operation)),
    });
    assert(planted > 0, "the fault fits no text of the kernel");
    assertEquals(report.suspects, [kernel + variant]);
    assertEquals(report.verdict.level, "faulty");
    assertMatch(report.problems[0].what, new RegExp(`point at the kernel ${kernel}${variant}\\b`));
    assertMatch(report.problems[0].advice, /^update .* run bluerose doctor again/);
    assertEquals(report.speed, undefined, "a faulty device is not timed");
    assert(report.checks.some(({ failure }) => failure === undefined), "sound kernels pass");
  });
}

const result = (kernels: string[], failure?: string): CheckResult => ({
  operation: "x",
  shape: "1",
  kernels,
  tolerance: 1e-6,
  ...(failure === undefined ? { error: 0 } : { failure }),
});

Deno.test("suspectKernels() names kernels that only ran where checks failed, and the narrowest explanation", () => {
  assertEquals(suspectKernels([result(["a"]), result(["a", "b"])]), []);
  assertEquals(suspectKernels([result(["a"]), result(["a", "b"], "wrong")]), ["b"]);
  // one variant of a is broken
  assertEquals(suspectKernels([result(["a"]), result(["a"], "wrong")]), ["a"]);
  // c fails because a, which it uses, is broken
  assertEquals(suspectKernels([result(["a", "c"], "wrong"), result(["a"], "wrong")]), ["a"]);
  assertEquals(suspectKernels([result(["a", "b"], "wrong")]), ["a", "b"]);
});

Deno.test("a missing adapter and a lost device are problems that say what to do", () => {
  const nothing = { strategies: [], checks: [], suspects: [], leftOut: [] };
  const absent = judge({ ...nothing, errors: [{ part: "open", error: new NoAdapterError("Install a driver") }] });
  assertEquals(absent.problems, [{ what: "no GPU can be opened", advice: "Install a driver" }]);
  assertEquals(absent.verdict.level, "faulty");
  const lost = judge({ ...nothing, errors: [{ part: "checks", error: new DeviceLostError("gone", "unknown") }] });
  assertMatch(lost.problems[0].what, /lost during the checks of kernels: gone/);
  assertMatch(lost.problems[0].advice, /update its driver/);
});

Deno.test("a picture that cannot be drawn, and one that differs, are told apart", () => {
  using gpu = Gpu.null();
  const device = { name: gpu.info.name } as NonNullable<Examination["device"]>;
  const found = { device, strategies: [], checks: [], suspects: [], leftOut: [], errors: [] };
  const judged = (picture: PictureResult) => judge({ ...found, picture });
  const missing = judged({ prompt: "a rose", ms: 1, failure: "Cannot load models/pocket/unet" });
  assertMatch(missing.problems[0].what, /could not be drawn: Cannot load models/);
  assertMatch(missing.problems[0].advice, /restore the repository's folder models\/pocket/);
  assertMatch(missing.verdict.text, /passed the checks of its kernels, but a picture could not be drawn/);
  const wrong = judged({ prompt: "a rose", ms: 1, difference: 9, largest: 99, failure: "differs by 9" });
  assertMatch(wrong.problems[0].what, /the picture of "a rose" differs by 9/);
  assertMatch(wrong.verdict.text, /does not compute correctly/);
});

Deno.test("what to do about a tuning that cannot be read is not to tune, which would fail, too", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/tiles.json`;
  await Deno.writeTextFile(path, "{");
  await withEnvironment({ BLUEROSE_TILES: path }, async () => {
    const error = await openTunedGpu().catch((error) => error);
    const nothing = { strategies: [], checks: [], suspects: [], leftOut: [] };
    const [{ advice }] = judge({ ...nothing, errors: [{ part: "open", error }] }).problems;
    assertMatch(advice, /^remove the saved tuning: bluerose bench --tune/);
    const other = judge({ ...nothing, errors: [{ part: "open", error: new TuningError("no such lanes") }] });
    assertMatch(other.problems[0].advice, /^remove the saved tuning, or replace it: bluerose bench --tune/);
  });
});

Deno.test("withoutPersonalPaths() hides homes, the program's folder, folders that variables name and paths elsewhere", () => {
  const places = { variables: { HOME: "/data/ann", BLUEROSE_TILES: undefined }, program: "/opt/rose/" };
  const hidden = (text: string) => withoutPersonalPaths(text, places);
  assertEquals(hidden("Cannot read /data/ann/.cache/x"), "Cannot read $HOME/.cache/x");
  assertEquals(hidden("at file:///opt/rose/cli/main.ts:3"), "at cli/main.ts:3");
  assertEquals(hidden("/opt/rose/models/pocket is no folder"), "models/pocket is no folder");
  const accented = withoutPersonalPaths("Cannot read /opt/jürgen ä/x, file:///opt/j%C3%BCrgen%20%C3%A4/y", {
    variables: {},
    program: "/opt/j%C3%BCrgen%20%C3%A4/",
  });
  assertEquals(accented, "Cannot read x, y");
  assertEquals(hidden("/home/bob/a and /Users/Bob/b"), "~/a and ~/b");
  assertEquals(hidden("C:\\Users\\Bob\\a"), "~\\a");
  assertEquals(hidden("/usr/share/vulkan"), "/usr/share/vulkan");
  assertEquals(hidden("at file:///srv/bob/deno/npm/fast-png/index.js:3:4"), "at file://…/index.js:3:4");
  assertEquals(hidden('Cannot read "/mnt/bob/tiles.json" or /scratch/bob/'), 'Cannot read "…/tiles.json" or …/');
  assertEquals(hidden("C:\\Deno\\x; D:\\bob\\deno\\gen\\a.js"), "…/; …/a.js");
  for (
    const text of [
      "GB/s, f32/f16, 1/2/3",
      "https://jsr.io/@a/b",
      "NVRM /proc/driver/x",
      "// a / b",
      "C:\\Windows\\x.dll",
    ]
  ) {
    assertEquals(hidden(text), text);
  }
});

Deno.test("withoutPersonalPaths() hides names with spaces, of Windows and in JSON whole", () => {
  const hidden = (text: string, variables: Record<string, string> = {}) =>
    withoutPersonalPaths(text, { variables, program: "/opt/rose/" });
  for (
    const [text, expected] of [
      ["Cannot read /mnt/Ann Lee/tiles.json as it is", "Cannot read …/tiles.json as it is"],
      ["Cannot read /mnt/Jörg/tiles.json. Remove it", "Cannot read …/tiles.json. Remove it"],
      ["C:\\Users\\Ann Lee\\x, D:\\Ann Lee\\x y\\a.js", "~\\x, …/a.js"],
      ["C:/Users/Ann/x.js", "~/x.js"],
      ["\\\\server\\ann\\x.json", "…/x.json"],
      ["/home/ann and /home/bob c", "~ and ~ c"],
    ]
  ) {
    assertEquals(hidden(text), expected);
  }
  const windows = { USERPROFILE: "D:\\Ann Lee\\" };
  assertEquals(hidden("D:\\Ann Lee\\x", windows), "$USERPROFILE\\x");
  assertEquals(hidden(JSON.stringify("D:\\Ann Lee\\x"), windows), '"$USERPROFILE\\\\x"');
});

Deno.test("withoutPersonalPaths() replaces variables where their path ends, and no words that are no paths", () => {
  const hidden = (text: string, variables: Record<string, string>) =>
    withoutPersonalPaths(text, { variables, program: "/opt/rose/" });
  const HOME = "/data/jo";
  assertEquals(hidden("/data/jo, /data/jo/x, /data/jo.", { HOME }), "$HOME, $HOME/x, $HOME.");
  assertEquals(hidden("/data/john/x and /data/jo.old/y", { HOME }), "…/ and …/");
  assertEquals(hidden("/data/jo/x", { HOME: "/data/jo/" }), "$HOME/x");
  assertEquals(hidden("cached in cache", { HF_HUB_CACHE: "cache", HOME: "/" }), "cached in cache");
});

Deno.test("byImportance() puts the first check of each operation before the others, and loses none", () => {
  const { essential, others } = byImportance(checks);
  const operations = essential.map(({ operation }) => operation);
  assertEquals(new Set(operations).size, operations.length);
  assertEquals(new Set(operations), new Set(checks.map(({ operation }) => operation)));
  assertEquals(new Set([...essential, ...others]), new Set(checks));
  assertEquals(essential.length + others.length, checks.length);
});

Deno.test("a slow device gets the important checks within the budget, and is told what was left out", async () => {
  using gpu = await Gpu.request();
  let clock = 0;
  const ran: string[] = [];
  // A clock that only checks advance, by ten seconds each.
  const slow = (operation: string, shape: string): Check => ({
    operation,
    shape,
    tolerance: 0,
    run: (gpu) => {
      clock += 10_000;
      ran.push(`${operation} ${shape}`);
      return { tensor: Tensor.from(gpu, new Float32Array([1]), [1]), expected: [1] };
    },
  });
  const report = await diagnoseGpu(gpu, {
    program: "a test",
    checks: [slow("a", "1"), slow("a", "2"), slow("b", "1"), slow("a", "3"), slow("c", "1")],
    budget: new Budget(30, { now: () => clock }),
  });
  assertEquals(ran, ["a 1", "b 1", "c 1"]);
  assertEquals(report.leftOut, ["2 checks", "the measurement of speed"]);
  assertEquals([report.verdict.level, report.speed], [report.isSoftware ? "slow" : "good", undefined]);
  assertMatch(report.verdict.text, /computes correctly: 3 checks .* as far as the budget allowed/);
  assertMatch(
    report.remarks[0].what,
    /^2 checks, the measurement of speed left out: no time within the budget of 30 s/,
  );
  assertMatch(report.remarks[0].advice, /--budget 300/);
});
