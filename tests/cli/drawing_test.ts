import { assert, assertEquals, assertRejects } from "@std/assert";
import { decodePicture } from "../../pipeline/image/picture.ts";
import { readPngText } from "../../pipeline/image/png_text.ts";
import { parseModelIndex } from "../../pipeline/checkpoint/diffusers/config/model_index.ts";
import { readConfig } from "../../pipeline/checkpoint/diffusers/config/fields.ts";
import { directoryTree } from "../../pipeline/checkpoint/source/disk.ts";
import { saveSafetensors } from "../../pipeline/checkpoint/save.ts";
import { computedEntry } from "../../pipeline/checkpoint/safetensors/tensor_stream.ts";
import { openWeights } from "../../pipeline/checkpoint/safetensors/weight_files.ts";
import { assertClose } from "../close.ts";
import { goldens, pocket } from "../paths.ts";
import { withCachedModel } from "./cached_model.ts";
import { pocketSide, run, temporaryFolder } from "./running.ts";

const quick = ["--steps", "2", "--cfg-scale", "5"];

/** The text of a PNG file: A1111's, and ours. */
async function textOf(path: string): Promise<{ parameters: string; record: Record<string, unknown> }> {
  const { parameters, bluerose } = await readPngText(await Deno.readFile(path));
  return { parameters, record: JSON.parse(bluerose) };
}

Deno.test("edit writes a sheet, an edit, a LoRA and a model; generate uses all of them, from the hub's cache", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const edited = await run(
    ...[
      "edit",
      "-m",
      pocket,
      "--source",
      "A rose",
      "--destination",
      "A blue rose",
      "--lambda",
      "0.5",
      "--preserve",
      "a tulip",
    ],
    ...["-p", "a field of roses", "-p", "a cat", "-o", at("sheet.png"), "--seed", "3", "--report", ...quick],
    ...["--save-edit", at("edit.safetensors"), "--export-lora", at("blue.safetensors"), "--save-model", at("model")],
  );
  assertEquals(edited.code, 0, edited.err);
  for (
    const said of [
      "lambda 0.5",
      "alignment: ",
      "a field of roses",
      at("sheet.png"),
      at("edit.safetensors"),
      at("model"),
    ]
  ) {
    assert(edited.out.includes(said), `${said} is not in\n${edited.out}`);
  }
  const sheet = await textOf(at("sheet.png"));
  assert(sheet.parameters.startsWith("a field of roses\na cat\nSteps: 2, "), sheet.parameters);
  const { seed, edits, sheet: rows } = sheet.record;
  const pair = { source: "A rose", destination: "A blue rose", lambda: 0.5, options: ["1 preserved"] };
  assertEquals([seed, edits], [3, [pair]]);
  assertEquals(rows, { columns: ["before", "after"], prompts: [{ prompt: "a field of roses" }, { prompt: "a cat" }] });
  const saved = await readConfig(await directoryTree(at("model")), "model_index.json", parseModelIndex);
  assertEquals(saved.components.unet, "UNet2DConditionModel");
  const inspected = await run("inspect", at("edit.safetensors"), at("blue.safetensors"), at("model"));
  assertEquals(inspected.code, 0, inspected.out);
  assert(inspected.out.includes("an edit of Blue Rose") && inspected.out.includes("a LoRA"), inspected.out);

  const width = 128; // of the pocket model's text encoder
  await saveSafetensors(at("swirl.safetensors"), [
    computedEntry("emb_params", [2, width], "f32", () => Promise.resolve(new Float32Array(2 * width).fill(0.1))),
  ]);
  await withCachedModel(at("cache"), async () => {
    const drawn = await run(
      ...[
        "generate",
        "-m",
        "somebody/pocket",
        "--offline",
        "-p",
        "a swirl rose",
        "-p",
        "a cat",
        "-o",
        at("out.png"),
        "--seed",
        "3",
      ],
      ...["--edit", at("edit.safetensors"), "--lora", `${at("blue.safetensors")}:0.25`, ...quick],
      ...["--textual-inversion", at("swirl.safetensors"), "--sampling-method", "Euler Karras"],
      ...["--preview", at("look.png"), "--preview-interval", "1"],
    );
    assertEquals([drawn.code, drawn.out, drawn.err], [0, `${at("out_1.png")}\n${at("out_2.png")}\n`, ""]);
    const unknown = await run("generate", "-m", "somebody/else", "--offline", "-p", "x");
    assertEquals(unknown.code, 1);
    assert(unknown.err.includes("HubError: Cannot open somebody/else@main from the cache"), unknown.err);
    const revision = await run("generate", "-m", "somebody/pocket", "--offline", "--revision", "old", "-p", "x");
    assert(revision.err.includes("somebody/pocket@old"), revision.err);
  });
  const { parameters, record } = await textOf(at("out_1.png"));
  assert(
    parameters.startsWith(
      `a swirl rose\nSteps: 2, Sampler: Euler Karras, CFG scale: 5, Seed: 3, Size: ${pocketSide}x${pocketSide}, Model hash: `,
    ),
    parameters,
  );
  for (const said of ['Loras: "blue:0.25"', 'TIME edits: "A rose -> A blue rose (lambda 0.5, 1 preserved)"']) {
    assert(parameters.includes(said), parameters);
  }
  assertEquals([record.loras, record.edits], [{ blue: 0.25 }, edits]);
  assertEquals(record.modelHash, (await textOf(at("sheet.png"))).record.modelHash);
  const look = await decodePicture(await Deno.readFile(at("look.png")));
  assertEquals([look.width, look.height], [2 * pocketSide, pocketSide], "two pictures side by side");
});

Deno.test("generate --activations f16 works, and the picture's text records it", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/half.png`;
  const drawn = await run(
    "generate",
    "-m",
    "models/pocket",
    "-p",
    "a rose",
    "-o",
    path,
    "--activations",
    "f16",
    ...quick,
  );
  assertEquals([drawn.code, drawn.err], [0, ""]);
  const { parameters, record } = await textOf(path);
  assert(parameters.includes(", Activations: f16, "), parameters);
  assertEquals(record.activations, "f16");
});

Deno.test("generate --grid writes all pictures to one file, a row for each prompt, with the seed of each in its text", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/grid.png`;
  const args = [
    "generate",
    "-m",
    "models/pocket",
    "-p",
    "a rose",
    "-p",
    "a cat",
    "-p",
    "a car",
    "-b",
    "2",
    "--seed",
    "9",
    "--grid",
  ];
  const { code, out, err } = await run(...args, "--no-captions", "-o", path, ...quick);
  assertEquals([code, out, err], [0, `${path}\n`, ""]);
  const { width, height } = await decodePicture(await Deno.readFile(path));
  assertEquals([width, height], [2 * pocketSide, 3 * pocketSide]);
  const { pictures } = (await textOf(path)).record;
  assertEquals(pictures, ["a rose", "a cat", "a car"].flatMap((prompt) => [{ prompt, seed: 9 }, { prompt, seed: 10 }]));
  const captioned = await run(...args, "-o", path, ...quick);
  assertEquals(captioned.out, `${folder.path}/grid_1.png\n`, "the first grid is kept");
  const sheet = await decodePicture(await Deno.readFile(`${folder.path}/grid_1.png`));
  assert(sheet.width > width && sheet.height > height, "captions take room beside the pictures");
});

Deno.test("demo writes its sheet and prints the path", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/demo.png`;
  const { code, out } = await run("demo", "-p", "a rose", "-o", path, ...quick);
  assertEquals(code, 0);
  assert(out.includes("Edited in ") && out.endsWith(`Wrote ${path}\n`), out);
  const { record } = await textOf(path);
  assertEquals(record.edits, [{ source: "A pack of roses", destination: "A pack of blue roses", lambda: 0.1 }]);
});

Deno.test("invalid usage exits with 2; a failure exits with 1 and prints the typed error", async () => {
  const draw = ["generate", "-m", pocket, "-p", "x"];
  const edit = ["edit", "-m", pocket, "--source", "a rose"];
  const cases: [args: string[], code: number, message: string][] = [
    [["generate", "-m", pocket], 2, "Cannot go on without -p or --prompt"],
    [["generate", "-p", "x"], 2, "Cannot go on without -m or --model"],
    [[...draw, "--steps", "0"], 2, "--steps"],
    [[...draw, "--lora", ""], 2, "without a file"],
    [[...draw, "--tokenizer", pocket], 1, "it has no vocab.json"],
    [["generate", "-m", "a.safetensors", "-p", "x", "--revision", "main"], 2, "models of the hub only"],
    [["generate", "-m", "a.safetensors", "-p", "x", "--variant", "fp16"], 2, "folders and models of the hub only"],
    [[...draw, "--revision", "main"], 2, `Cannot use --revision with ${pocket}, which is on this disk`],
    [["edit", "-m", "https://h/m", "--edit", "x.safetensors", "--revision", "v1"], 2, "models of the hub only"],
    [[...draw, "--ema"], 2, "single files only"],
    [["edit", "-m", pocket, "-p", "x"], 2, "Cannot edit without a pair"],
    [[...edit, "-p", "x"], 2, "one destination for each source"],
    [
      [...edit, "--destination", "a red rose", "-o", "x.png"],
      2,
      "Cannot use --output without --prompt or --prompts-file",
    ],
    [[...draw, "-o", "x.webp"], 1, "ImageError: Cannot write a picture to x.webp as WebP is not supported"],
    [[...draw, "--preview", "x.gif"], 1, "ImageError: Cannot write a picture to x.gif"],
    [
      ["generate", "-m", "./nowhere", "-p", "x"],
      1,
      "CheckpointError: Cannot load ./nowhere as there is no such folder",
    ],
    [["generate", "-m", "nowhere.safetensors", "-p", "x"], 1, "CheckpointError: Cannot read nowhere.safetensors"],
    [["generate", "-m", "model.ckpt", "-p", "x"], 1, "CheckpointError: Cannot load model.ckpt: it is a pickle"],
    [[...draw, "--sampling-method", "nosuch"], 2, "Cannot choose a sampler"],
    [[...draw, "--lora", "nowhere.safetensors"], 1, "CheckpointError: Cannot read nowhere.safetensors"],
  ];
  for (const [args, expected, message] of cases) {
    const { code, out, err } = await run(...args);
    assertEquals([code, out], [expected, ""], `${args.join(" ")}: ${err}`);
    assert(err.includes(message), `${args.join(" ")}: ${err}`);
  }
});

Deno.test("generate takes an autoencoder of its own, also for previews, and draws its pictures again", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const tiny = `${goldens}/tiny-vae`; // four pixels for each of the latents
  const draw = ["generate", "-m", "models/pocket", "-p", "a rose", "--steps", "2", "--seed", "5", "--vae", tiny];
  const preview = ["--preview", at("look.png"), "--preview-interval", "1", "--preview-vae", tiny];
  const { code, err } = await run(...draw, "-o", at("a.png"), ...preview);
  assertEquals([code, err], [0, ""]);
  for (const name of ["a.png", "look.png"]) {
    const { width, height } = await decodePicture(await Deno.readFile(at(name)));
    assertEquals([width, height], [pocketSide / 2, pocketSide / 2], name);
  }
  const again = await run("generate", "--from", at("a.png"), "-o", at("b.png"));
  assertEquals([again.code, again.err], [0, ""]);
  assertEquals(await Deno.readFile(at("b.png")), await Deno.readFile(at("a.png")));
});

Deno.test("edit saves the edited model as one file, which draws as its folder does", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const edit = ["edit", "-m", pocket, "--source", "A rose", "--destination", "A blue rose"];
  const nothing = await run(...edit);
  assertEquals(nothing.code, 0, nothing.err);
  assert(nothing.out.includes("Nothing is drawn or saved: add -p"), nothing.out);
  for (const place of ["model", "model.safetensors"]) {
    const saved = await run(...edit, "--save-model", at(place));
    assertEquals(saved.code, 0, saved.err);
    assert(!saved.out.includes("Nothing is drawn"), saved.out);
    const own = ["--tokenizer", `${pocket}/tokenizer`, "--sampler", "ddim"];
    const drawn = await run("generate", "-m", at(place), ...own, "-p", "a rose", "-o", at(`${place}.png`), ...quick);
    assertEquals(drawn.code, 0, drawn.err);
  }
  assert((await Deno.stat(at("model.safetensors"))).isFile);
  const pixels = async (name: string) => (await decodePicture(await Deno.readFile(at(name)))).data;
  assertEquals(await pixels("model.safetensors.png"), await pixels("model.png"));
  const again = await run(...edit, "--save-model", at("model.safetensors"));
  assertEquals(again.code, 2);
  assert(again.err.includes("add --overwrite"), again.err);
});

Deno.test("edit applies saved edits without a pair: draws before and after, exports and saves them", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const edit = ["edit", "-m", pocket];
  const solve = [...edit, "--source", "A rose", "--destination", "A blue rose"];
  const solved = await run(...solve, "--save-edit", at("rose.safetensors"), "--save-model", at("solved"));
  assertEquals(solved.code, 0, solved.err);
  const saved = await run(
    ...[...edit, "--edit", at("rose.safetensors"), "--save-model", at("applied"), "--json"],
    ...["--export-lora", at("lora.safetensors"), "-p", "a rose", "-o", at("sheet.png"), ...quick],
  );
  assertEquals(saved.code, 0, saved.err);
  const unet = (name: string) => Deno.readFile(at(`${name}/unet/diffusion_pytorch_model.safetensors`));
  assertEquals(await unet("applied"), await unet("solved"));
  const { edits, savedModel, lora } = JSON.parse(saved.out);
  const [{ path, strength, lamb }] = edits;
  assertEquals([path, strength, lamb, savedModel], [at("rose.safetensors"), 1, 0.1, at("applied")]);
  assert(lora.matrices > 0);
  const { record } = await textOf(at("sheet.png"));
  assertEquals(record.edits, [{ source: "A rose", destination: "A blue rose", lambda: 0.1 }]);

  const weak = await run(...edit, "--edit", `${at("rose.safetensors")}:0`, "--save-model", at("weak"));
  assertEquals(weak.code, 0, weak.err);
  assertEquals(await unet("weak"), await Deno.readFile(`${pocket}/unet/diffusion_pytorch_model.safetensors`));
  const adapted = [...edit, "--edit", `${at("rose.safetensors")}:0`, "--lora", at("lora.safetensors")];
  const merged = await run(...adapted, "--save-model", at("merged"));
  assertEquals(merged.code, 0, merged.err);
  const key = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight";
  const values = async (name: string) => {
    using weights = await openWeights(await directoryTree(`${at(name)}/unet`), "diffusion_pytorch_model");
    return await weights.float32(key);
  };
  assertClose(await values("merged"), await values("solved"), 1e-3, "the LoRA of the edit is the edit, both in f16");
  for (const flag of ["--report", "--lambda=1", "--values-only", `--save-edit=${at("x.safetensors")}`]) {
    const refused = await run(...edit, "--edit", at("rose.safetensors"), flag);
    assertEquals(refused.code, 2, flag);
    assert(refused.err.includes(`Cannot use ${flag.split("=")[0]} without a pair of prompts`), refused.err);
  }
  for (
    const [flag, on] of [["--candidates=x", "--report"], ["--rank=2", "--export-lora"], [
      "--save-dtype=f16",
      "--save-model",
    ]]
  ) {
    const refused = await run(...solve, flag);
    assertEquals([refused.code, refused.err.split("\n")[0]], [
      2,
      `bluerose edit: Cannot use ${flag.split("=")[0]} without ${on}, which it belongs to`,
    ]);
  }
  const wide = await run(...edit, "--edit", at("rose.safetensors"), "--save-model", at("wide"), "--save-dtype", "f32");
  assertEquals(wide.code, 0, wide.err);
  assert((await unet("wide")).length > 1.9 * (await unet("solved")).length);
  const folderName = await run(...edit, "--edit", at("rose.safetensors"), "--save-model", at("model.ckpt"));
  assertEquals(folderName.code, 1);
  assert(folderName.err.includes("loading would take it for a file of weights"), folderName.err);
  const huge = await run(...edit, "--edit", `${at("rose.safetensors")}:1e300`, "--save-model", at("huge"));
  assertEquals(huge.code, 1);
  assert(/Cannot write tensor .*to_k.weight as it comes out as (NaN|-?Infinity)/.test(huge.err), huge.err);
  await assertRejects(() => Deno.stat(at("huge")), Deno.errors.NotFound);
  const large = await run(...edit, "--edit", `${at("rose.safetensors")}:1e9`, "--save-model", at("large"));
  assert(large.err.includes("the largest f16 is 65504. Save in f32, by --save-dtype or --lora-dtype"), large.err);
  const none = await run(...edit, "--save-model", at("none"));
  assert(none.err.includes("or --edit with a saved edit"), none.err);

  const alone = [...edit, "--lora", `${at("lora.safetensors")}:0.5`];
  const styled = await run(...alone, "--save-model", at("styled"), "--json");
  assertEquals(styled.code, 0, styled.err);
  const report = JSON.parse(styled.out);
  assertEquals([report.savedModel, report.loras, report.edits], [
    at("styled"),
    [`${at("lora.safetensors")}:0.5`],
    undefined,
  ]);
  const half = await values("styled"), [full, own] = [await values("solved"), await values("weak")];
  const expected = full.map((value, i) => (value + own[i]) / 2);
  assertClose(half, expected, 1e-3, "half of the edit's LoRA is half of the edit, in f16");
  assert(half.some((value, i) => value !== own[i]), "the LoRA is merged");
  for (const flag of ["-p=a rose", `--export-lora=${at("y.safetensors")}`]) {
    const refused = await run(...alone, "--save-model", at("styled2"), flag);
    assertEquals(refused.code, 2, flag);
    assert(refused.err.includes("without an edit, as --lora alone is merged"), refused.err);
  }
  const solving = await run(...alone, "--save-model", at("styled2"), "--report");
  assert(solving.err.includes("Cannot use --report without a pair of prompts, as --lora alone is merged"), solving.err);
  const unsaved = await run(...alone);
  assert(unsaved.err.includes("or --lora with --save-model"), unsaved.err);
});
