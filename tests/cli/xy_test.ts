import { assert, assertEquals, assertThrows } from "@std/assert";
import { ArgumentError } from "../../cli/argument_error.ts";
import { parseAxis } from "../../cli/grid_axis.ts";
import { drawGrid } from "../../pipeline/generation/xy_grid.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { decodePicture, picturesFromFloats } from "../../pipeline/image/picture.ts";
import { readPngText } from "../../pipeline/image/png_text.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { samplerByName, TorchGenerator } from "../../schedulers/mod.ts";
import { pocket } from "../paths.ts";
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
    ["__proto__=1", "it takes lambda, strength, seed, sampler, steps, guidance"],
    ["seed=", "without values"],
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
  assert((await refused("--x", "seed=1", "--y", "seed=2")).includes("choose two settings"));
});
