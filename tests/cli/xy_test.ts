import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ArgumentError } from "../../cli/argument_error.ts";
import { parseAxis } from "../../cli/grid_axis.ts";
import { drawGrid } from "../../pipeline/generation/xy_grid.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { decodePicture, picturesFromFloats } from "../../pipeline/image/picture.ts";
import { readPngText } from "../../pipeline/image/png_text.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { samplerByName, TorchGenerator } from "../../schedulers/mod.ts";
import { EditError } from "../../pipeline/errors.ts";
import { goldens, pocket } from "../paths.ts";
import { pocketSide, run, temporaryFolder } from "./running.ts";

Deno.test("parseAxis() reads numbers, exact seeds, ranges and samplers", () => {
  assertEquals(parseAxis("lambda=0.01, .1,1e3", "--x"), { name: "lambda", values: [0.01, 0.1, 1000] });
  assertEquals(parseAxis("seed=7,18446744073709551615", "--x"), { name: "seed", values: [7n, 2n ** 64n - 1n] });
  assertEquals(parseAxis("seed=3..5", "--x"), { name: "seed", values: [3n, 4n, 5n] });
  assertEquals(parseAxis("cfg=1,7.5", "--x"), { name: "guidance", values: [1, 7.5] });
  assertEquals(parseAxis("sampler=euler,dpm++2m karras", "--x"), {
    name: "sampler",
    values: ["euler", "dpm++2m karras"],
  });
});

Deno.test("parseAxis() refuses what is no axis, and says what would be", () => {
  const cases: [text: string, message: string][] = [
    ["lambda", "it takes NAME=VALUES"],
    ["lamda=1", "did you mean lambda?"],
    ["__proto__=1", "it takes lambda, strength, method, seed, sampler, steps, guidance"],
    ["seed=", "without values"],
    ["method=time,ucf", "did you mean uce?"],
    ["lambda=-1", "a number"],
    ["steps=1.5", "a whole number"],
    ["seed=5..3", "a range runs upward"],
    ["seed=1..999999999999", "at most 64 values"],
    ["guidance=50%", "did you mean 0.5?"],
  ];
  for (const [text, message] of cases) {
    const error = assertThrows(() => parseAxis(text, "--x"), ArgumentError);
    assert(error.message.includes(message), error.message);
  }
});

Deno.test("drawGrid() draws each cell as generate() does with its settings, and leaves the pipeline as it was", async () => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(pocket);
  const pair = { source: "A rose", destination: "A blue rose" };
  using edit = await ModelEdit.solve([pair], { lamb: 0.1 }, pipe);
  pipe.edits.push(edit, { strength: 0.5 });
  const { scheduler } = pipe;
  const common = { width: 64, height: 64, steps: 2, guidanceScale: 3 };
  const pictures = new Map<string, Uint8Array>();
  const x = { name: "lambda", values: [0.1, 1000] } as const, y = { name: "seed", values: [1, 2] } as const;
  for await (const { column, row, picture } of drawGrid(pipe, "a rose", { ...common, x, y })) {
    pictures.set(`${column},${row}`, picture.data);
  }
  assertEquals(pictures.size, 4);
  assertEquals([edit.recipe.lamb, pipe.edits.entries[0].strength, pipe.scheduler === scheduler], [0.1, 0.5, true]);
  const drawn = async (seed: number) => {
    const { images } = await pipe.generate("a rose", {
      width: 64,
      height: 64,
      numInferenceSteps: 2,
      guidanceScale: 3,
      generator: new TorchGenerator(seed),
      outputType: "array",
    });
    return picturesFromFloats(images, { width: 64, height: 64 })[0].data;
  };
  for (const [row, seed] of y.values.entries()) {
    await edit.resolve({ lamb: 1000 });
    assertEquals(pictures.get(`1,${row}`), await drawn(seed));
    await edit.resolve({ lamb: 0.1 });
    assertEquals(pictures.get(`0,${row}`), await drawn(seed));
  }
  assert(pictures.get("0,0")!.some((byte, i) => byte !== pictures.get("1,0")![i]), "λ changes the picture");

  // left early: the sampler is put back
  const samplers = { name: "sampler", values: ["ddim", "euler"] } as const;
  for await (const { picture } of drawGrid(pipe, "a rose", { ...common, x: samplers, seed: 1 })) {
    assert(pipe.scheduler !== scheduler);
    const own = pipe.scheduler.constructor, named = samplerByName("ddim", scheduler.config).constructor;
    assertEquals([own, picture.width], [named, 64]);
    break;
  }
  assertEquals(pipe.scheduler, scheduler);
});

Deno.test("a grid of methods draws each with the edits of that method alone, and puts the stack back", async () => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`);
  const pair = { source: "a rose", destination: "" };
  using time = await ModelEdit.solve([pair], { tokens: "last" }, pipe);
  using uce = await ModelEdit.solve([pair], { method: "uce", eraseScale: 2 }, pipe);
  pipe.edits.push(time);
  pipe.edits.push(uce);
  pipe.edits.toggle(uce, false);
  const x = { name: "method", values: ["uce", "time"] } as const, y = { name: "lambda", values: [0.5, 1] } as const;
  const acting: [string, number][] = [];
  for await (const { settings } of drawGrid(pipe, "a rose", { x, y, steps: 1 })) {
    assertEquals(pipe.edits.records.length, 1);
    const [{ method = "time", lambda }] = pipe.edits.records;
    assertEquals([method, lambda], [settings.method, settings.lambda]);
    acting.push([method, lambda]);
  }
  assertEquals(acting, [["uce", 0.5], ["time", 0.5], ["uce", 1], ["time", 1]]);
  assertEquals(pipe.edits.entries.map(({ enabled, edit }) => [enabled, edit.recipe.lamb]), [[true, 0.1], [false, 0.5]]);
  const nullSpace = { name: "method", values: ["nullspace"] } as const;
  await assertRejects(() => drawGrid(pipe, "a", { x: nullSpace }).next(), EditError, 'of the method "nullspace"');
});

Deno.test("xy erases by several editors, side by side; the picture names each edit's options", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/xy.png`;
  const erase = ["--source", "a rose", "--destination", "", "--preserve", "a cat", "--tokens", "last"];
  const { code, out, err } = await run(
    ...["xy", "-m", `${goldens}/sd1-mini`, "-p", "a rose", ...erase, "--erase-scale", "2", "--threshold", "0.2"],
    ...["--x", "method=time,uce,nullspace", "--steps", "1", "-o", path, "--json"],
  );
  assertEquals(code, 0, err);
  assertEquals(JSON.parse(out).x, { name: "method", values: ["time", "uce", "nullspace"] });
  const { parameters } = await readPngText(await Deno.readFile(path));
  assert(parameters.includes("uce, lambda 0.5, erase scale 2, 1 preserved"), parameters);
  assert(parameters.includes("nullspace, lambda 0, threshold 0.2, 1 preserved"), parameters);
});

Deno.test("xy writes one labeled picture, from a saved edit too; its axes are checked before a model is loaded", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/xy.png`, saved = `${folder.path}/rose.safetensors`;
  const solved = await run(
    ...["edit", "-m", pocket, "--source", "A rose", "--destination", "A blue rose", "--save-edit", saved],
  );
  assertEquals(solved.code, 0, solved.err);
  const { code, out, err } = await run(
    ...["xy", "-m", pocket, "-p", "a rose", "--edit", saved, "--x", "lambda=0.1,10", "--y", "strength=0,1"],
    ...["--steps", "1", "-W", "64", "-H", "64", "-o", path, "--json"],
  );
  assertEquals(code, 0, err);
  const report = JSON.parse(out);
  assertEquals([report.path, report.x, report.finished.length], [path, { name: "lambda", values: [0.1, 10] }, 4]);
  const bytes = await Deno.readFile(path);
  const { width, height } = await decodePicture(bytes);
  assert(width > 2 * pocketSide && height > 2 * pocketSide, "labels take room beside the enlarged pictures");
  assertEquals(JSON.parse((await readPngText(bytes)).bluerose).grid.y, { name: "strength", values: [0, 1] });
  const refused = async (...args: string[]) => (await run("xy", "-m", "./nowhere", "-p", "x", ...args)).err;
  assert((await refused("--x", "lambda=1,2")).includes("give --source and --destination, or --edit"));
  const pair = ["--source", "a rose", "--destination", "a tulip"];
  assert((await refused("--x", "lambda=1,0", ...pair, "--method", "uce")).includes("lambda 0: it must be"));
  assert((await refused("--x", "strength=0,1", ...pair, "--method", "nullspace")).includes("give --preserve"));
  assert((await refused("--x", "method=uce,nullspace", ...pair)).includes("give --preserve"));
  assert((await refused("--x", "method=time,uce")).includes("give --source and --destination"));
  assert((await refused("--x", "method=time,uce", ...pair, "--edit", saved)).includes("leave --edit out"));
  assert(
    (await refused("--x", "method=time,uce", ...pair, "--threshold", "0.1")).includes('of the method "nullspace"'),
  );
  const all = [...pair, "--tokens", "all", "--preserve", "a cat"];
  assert((await refused("--x", "method=time,nullspace", ...all)).includes("nowhere"), "each method as it takes them");
  assert((await refused("--x", "method=nullspace", ...all)).includes('with --tokens "all"'));
  assert((await refused("--x", "method=time,nullspace", "--y", "lambda=0,1", ...pair)).includes("give --preserve"));
  assert((await refused("--x", "method=time,uce", "--y", "lambda=0,1", ...pair)).includes("lambda 0: it must be"));
  assert((await refused("--x", "seed=1", "--y", "seed=2")).includes("choose two settings"));
});
