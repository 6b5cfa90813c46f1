import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { DataError } from "../../pipeline/errors.ts";
import { readPictureSettings } from "../../pipeline/generation/picture_settings.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { schedulerFromConfig } from "../../schedulers/mod.ts";
import { readJpegText } from "../../pipeline/image/jpeg_text.ts";
import { decodePicture, fromJimp } from "../../pipeline/image/picture.ts";
import { readPngText, withPngText } from "../../pipeline/image/png_text.ts";
import { disk } from "../../pipeline/output/disk.ts";
import { goldens } from "../paths.ts";
import { run, temporaryFolder } from "./running.ts";

const model = `${goldens}/sd1-mini`;
const modelXL = `${goldens}/sdxl-mini`;
const lora = `${goldens}/lora_kohya.safetensors`;
const inversion = `${goldens}/textual_inversion_swirl.safetensors`;
const cheap = ["--steps", "2", "-H", "32", "-W", "48"];

const ran = async (...args: string[]) => {
  const result = await run(...args);
  assertEquals(result.code, 0, result.err);
};

Deno.test({
  name: "generate --from draws a picture again to the byte: edits, adapters, sampler, syntax, size, seed",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    await using folder = await temporaryFolder();
    const at = (name: string) => `${folder.path}/${name}`;
    await Deno.mkdir(at("loras"));
    await Deno.copyFile(lora, at("loras/tagged.safetensors"));
    await Deno.copyFile(lora, at("ink.safetensors"));
    const pair = ["--source", "A pack of roses", "--destination", "A pack of blue roses"];
    const edited = [...pair, "--lambda", "0.2", "--preserve", "a cat", "--values-only"];
    const adapters = ["--textual-inversion", inversion, "--lora", `${at("ink.safetensors")}:0.4`];
    await ran("edit", "-m", model, ...adapters, ...edited, "--save-edit", at("edit.safetensors"));
    const drawing = [
      ...["generate", "-m", model, "-p", "a (field:1.3) of <swirl> roses <lora:tagged:0.5>", "-n", "blurry"],
      ...[...adapters, "--edit", `${at("edit.safetensors")}:0.7`, "--sampling-method", "euler_a"],
      ...["--prompt-syntax", "a1111", "--lora-dir", at("loras"), "--no-edit-negative-prompt"],
      ...["--cfg-scale", "4", "--seed", "18446744073709551615", "--clip-skip", "1", ...cheap],
    ];
    for (const format of ["png", "jpg"]) {
      const first = at(`first.${format}`), again = at(`again.${format}`);
      await ran(...drawing, "-o", first);
      await ran("generate", "--from", first, "-o", again);
      assertEquals(await Deno.readFile(again), await Deno.readFile(first), format);
    }
    const { exact, ...settings } = await readPictureSettings(at("first.png"));
    assertEquals([settings.seed, settings.width, settings.height], [2n ** 64n - 1n, 48, 32]);
    assertEquals(exact.edits.map(({ strength }) => strength), [0.7]);
    assertEquals(exact.edits[0].recipe.preserve, ["a cat"]);
    assertEquals(exact.edits[0].recipe.withToK, false);
    assertEquals(exact.adapters.map(({ kind, weight }) => [kind, weight]), [
      ["textual inversion", 1],
      ["lora", 0.4],
      ["prompt lora", 0.5],
    ]);
    const { parameters } = await readPngText(await Deno.readFile(at("first.png")));
    assertEquals(readJpegText(await Deno.readFile(at("first.jpg"))).parameters, parameters);

    // the library draws the same pixels from what it reads
    using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(settings.model);
    for (const { kind, file, weight } of exact.adapters) {
      if (kind === "lora") await pipe.loadLoraWeights(file, { weight });
      if (kind === "textual inversion") await pipe.loadTextualInversion(file);
    }
    pipe.scheduler = schedulerFromConfig(exact.scheduler);
    const { pairs, layers, ...how } = exact.edits[0].recipe;
    using edit = await ModelEdit.solve(pairs, { ...how, layers: layers ?? undefined }, pipe);
    pipe.edits.push(edit, { strength: exact.edits[0].strength });
    const { images } = await pipe.generate(settings.prompt, settings.options);
    const { data } = await decodePicture(await Deno.readFile(at("first.png")));
    assertEquals(fromJimp(images[0]).data, data);

    // flags that are given replace settings
    await ran("generate", "--from", at("first.png"), "--seed", "7", "-o", at("other.png"));
    const other = await readPictureSettings(at("other.png"));
    assertEquals([other.seed, other.prompt], [7n, settings.prompt]);
    const pixels = async (name: string) => (await decodePicture(await Deno.readFile(at(name)))).data;
    assertNotEquals(await pixels("other.png"), await pixels("first.png"));

    // what is missing or has changed is named
    const refused = async (text: string) => {
      const { code, err } = await run("generate", "--from", at("first.png"), "-o", at("never.png"));
      assertEquals(code, 1);
      assert(err.includes(text), err);
    };
    await Deno.writeFile(at("ink.safetensors"), new Uint8Array(5), { append: true });
    await refused("ink.safetensors has changed since it was drawn");
    await Deno.remove(at("ink.safetensors"));
    await refused("ink.safetensors is not on this disk");
    await Deno.copyFile(lora, at("ink.safetensors"));
    await Deno.remove(at("loras/tagged.safetensors"));
    await refused("tagged");
  },
});

Deno.test({
  name: "generate --from uses the picture's other components and prediction type, and refuses others in their place",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    await using folder = await temporaryFolder();
    const at = (name: string) => `${folder.path}/${name}`;
    await copyFolder(`${goldens}/tiny-vae`, at("vae"));
    await copyFolder(`${model}/tokenizer`, at("tokenizer"));
    const parts = ["--vae", at("vae"), "--tokenizer", at("tokenizer"), "--prediction-type", "v_prediction"];
    const first = at("first.png"), again = at("again.png"), plain = at("plain.png");
    const draw = ["generate", "-m", model, "-p", "a rose", "--seed", "3", ...cheap];
    await ran(...draw, ...parts, "--activations", "f16", "-o", first);
    await ran(...draw, "-o", plain);
    await ran("generate", "--from", first, "-o", again);
    assertEquals(await Deno.readFile(again), await Deno.readFile(first));
    const pixels = async (path: string) => (await decodePicture(await Deno.readFile(path))).data;
    assertNotEquals(await pixels(first), await pixels(plain));

    const { model: named, loading, exact, prompt, options } = await readPictureSettings(first);
    assertEquals(loading, {
      vae: at("vae"),
      tokenizer: at("tokenizer"),
      predictionType: "v_prediction",
      activations: "f16",
      safetyChecker: null,
    });
    assertEquals(exact.components?.map(({ sha256 }) => sha256?.length), [64, 64]);
    using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(named, loading);
    assertEquals(pipe.scheduler.config, schedulerFromConfig(exact.scheduler).config);
    assertEquals(fromJimp((await pipe.generate(prompt, options)).images[0]).data, await pixels(first));

    // a sampler that replaces the picture's keeps what the UNet predicts; so does a spacing
    for (const flags of [["--sampling-method", "euler"], ["--scheduler", "karras", "--sampling-method", "euler"]]) {
      await ran(...draw, ...parts, "--activations", "f16", ...flags, "-o", at("other.png"), "--overwrite");
      await ran("generate", "--from", first, ...flags, "-o", again, "--overwrite");
      assertEquals(await Deno.readFile(again), await Deno.readFile(at("other.png")), flags.join(" "));
    }
    await ran("generate", "--from", first, "--prediction-type", "epsilon", "-o", again, "--overwrite");
    assertEquals((await readPictureSettings(again)).exact.scheduler.prediction_type, "epsilon");

    const refused = async (text: string) => {
      const { code, err } = await run("generate", "--from", first, "-o", at("never.png"));
      assertEquals(code, 1);
      assert(err.includes(text), err);
    };
    const weights = at("vae/diffusion_pytorch_model.safetensors");
    const bytes = await Deno.readFile(weights);
    await Deno.writeFile(weights, bytes.map((byte, i) => i === bytes.length - 2 ? byte ^ 1 : byte));
    await refused(`its autoencoder ${at("vae")} has changed since it was drawn`);
    await Deno.writeFile(weights, bytes);
    await Deno.remove(at("tokenizer"), { recursive: true });
    await refused(`its tokenizer ${at("tokenizer")} is not on this disk: put it there, or give --tokenizer`);
    await ran("generate", "--from", first, "--tokenizer", `${model}/tokenizer`, "-o", again, "--overwrite");
    assertEquals(await pixels(again), await pixels(first));
  },
});

Deno.test({
  name: "generate --from draws the pictures of edit, demo, xy and sweep again, and says what their sheets hold",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    await using folder = await temporaryFolder();
    const at = (name: string) => `${folder.path}/${name}`;
    const { remove } = disk;
    disk.remove = () => Promise.resolve(); // single pictures stay beside the sheets
    try {
      const pair = ["--source", "A rose", "--destination", "A blue rose", "--lambda", "0.3"];
      const drawn = [...cheap, "--cfg-scale", "4"];
      await ran("edit", "-m", model, ...pair, "-p", "a rose", "--seed", "9", ...drawn, "-o", at("edit.png"));
      await ran(
        "demo",
        "-m",
        model,
        ...pair,
        "-p",
        "a rose",
        "--vae",
        `${goldens}/tiny-vae`,
        ...drawn,
        "-o",
        at("demo.png"),
      );
      const syntax = ["--prompt-syntax", "a1111", "--no-edit-negative-prompt", "-n", "(blurry:1.2)"];
      const axes = ["--x", "lambda=0.3,3", "--y", "sampler=euler_a"];
      await ran("xy", "-m", model, "-p", "a (rose:1.3)", ...pair, ...axes, ...syntax, ...drawn, "-o", at("xy.png"));
      const csv =
        "old,new,positive1,gt1,negative1,gn1\nA rose,A blue rose,a field of roses,a field of blue roses,a cat,a blue cat";
      await Deno.writeTextFile(at("data.csv"), csv);
      for (const method of ["edit", "oracle"]) {
        const sweep = [
          "--seeds",
          "1",
          "--steps",
          "2",
          "--method",
          method,
          "--sampling-method",
          "ddim",
          "-o",
          at("plan.json"),
        ];
        await ran("sweep", "plan", "--data", at("data.csv"), "-m", model, ...sweep, "--overwrite");
        await ran("sweep", "run", at("plan.json"), "--pictures", at(method), "-o", at(`${method}.jsonl`));
      }
    } finally {
      disk.remove = remove;
    }
    const pictures = [
      ...["edit.parts/before_1", "edit.parts/after_1", "demo.parts/after_1"],
      ...["xy.parts/1_1", "xy.parts/1_2", "edit/0_0_0_efficacy_0", "oracle/0_0_0_generality_1"],
    ];
    const pixels = async (path: string) => (await decodePicture(await Deno.readFile(path))).data;
    const seen = new Set<string>();
    for (const [i, name] of pictures.entries()) {
      await ran("generate", "--from", at(`${name}.png`), "-o", at(`${i}.png`));
      assertEquals(await pixels(at(`${i}.png`)), await pixels(at(`${name}.png`)), name);
      seen.add((await pixels(at(`${i}.png`))).join());
    }
    assertEquals(seen.size, pictures.length, "all pictures differ");
    assertEquals((await readPictureSettings(at("oracle/0_0_0_generality_1.png"))).prompt, "a field of blue roses");
    await ran("generate", "-m", model, "-p", "a rose", "-p", "a cat", ...cheap, "--grid", "-o", at("grid.png"));
    const refused = async (name: string, message: string) =>
      await assertRejects(() => readPictureSettings(at(name)), DataError, message);
    await refused("grid.png", 'it is a grid of 2 pictures ("a rose", "a cat", seeds 42');
    await refused("edit.png", 'a sheet of 1 prompt before and after an edit ("a rose"');
    await refused("xy.png", "a grid over lambda and sampler");
  },
});

Deno.test({
  name: "generate --from solves edits of several operators again: one per layer, and one of the pooled embedding",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    await using folder = await temporaryFolder();
    const at = (name: string) => `${folder.path}/${name}`;
    const byLayer = [
      ...["--method", "nullspace", "--augment", "2", "--source", "a rose", "--destination", "a tulip"],
      ...["--preserve", "a cat", "--preserve", "a dog", "--preserve", "a house"],
    ];
    const pooled = ["--with-pooled", "--source", "A rose", "--destination", "A blue rose"];
    for (const [name, source, edit] of [["sd1-mini", model, byLayer], ["sdxl-mini", modelXL, pooled]] as const) {
      const saved = at(`${name}.safetensors`), first = at(`${name}1.png`), again = at(`${name}2.png`);
      await ran("edit", "-m", source, ...edit, "--save-edit", saved);
      await ran("generate", "-m", source, "-p", "a field of roses", ...cheap, "--edit", saved, "-o", first);
      await ran("generate", "--from", first, "-o", again);
      assertEquals(await Deno.readFile(again), await Deno.readFile(first), name);
      assertEquals((await readPictureSettings(again)).exact.edits.length, 1, name);
    }
  },
});

async function copyFolder(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name } of Deno.readDir(from)) await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
}

Deno.test("generate --from leaves out the revision that a picture of a local model recorded", async () => {
  await using folder = await temporaryFolder();
  const first = `${folder.path}/first.png`, again = `${folder.path}/again.png`;
  await ran("generate", "-m", model, "-p", "a rose", ...cheap, "-o", first);
  const png = await Deno.readFile(first), text = await readPngText(png), record = JSON.parse(text.bluerose);
  record.exact.revision = "main";
  await Deno.writeFile(first, withPngText(png, { ...text, bluerose: JSON.stringify(record) }));
  await ran("generate", "--from", first, "-o", again);
  assertEquals((await readPictureSettings(again)).exact.revision, undefined);
});

Deno.test("readPictureSettings() refuses what is not whole, by name", async () => {
  const png = Uint8Array.fromBase64(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  );
  const refused = async (text: Record<string, string>, message: string) =>
    await assertRejects(() => readPictureSettings(withPngText(png, text)), DataError, message);
  await refused({}, "it holds none");
  await refused({ parameters: "a rose\nSteps: 20" }, "another program");
  await refused({ bluerose: "{" }, "must be JSON");
  await refused({ bluerose: "null" }, "older version");
  await refused({ bluerose: JSON.stringify({ prompt: "a rose", seed: 1 }) }, "an older version wrote it");
  await refused({ bluerose: JSON.stringify({ pictures: [] }) }, "several pictures");
  await refused({ bluerose: JSON.stringify({ prompt: 5, exact: {} }) }, "prompt must be a string");
  await refused({ bluerose: JSON.stringify({ prompt: "", negativePrompt: "", seed: -1, exact: {} }) }, "a seed from 0");
});
