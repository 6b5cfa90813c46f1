import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Tensor } from "../../../engine/tensor.ts";
import { CheckpointError } from "../../../pipeline/errors.ts";
import { picturesFromFloats } from "../../../pipeline/image/picture.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import { pipelineFiles } from "../../../pipeline/checkpoint/diffusers/pipeline_files.ts";
import { StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { TorchGenerator } from "../../../schedulers/mod.ts";
import { temporaryFolder } from "../../cli/running.ts";
import { gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

/** sd1-mini with the golden safety checker: a folder as diffusers saves it. */
async function checkedModel(
  change: (index: Record<string, unknown>) => void = () => {},
): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir();
  for (const part of ["scheduler", "text_encoder", "tokenizer", "unet", "vae"]) {
    await Deno.symlink(`${goldens}/sd1-mini/${part}`, `${path}/${part}`);
  }
  for (const part of ["safety_checker", "feature_extractor"]) {
    await Deno.symlink(`${goldens}/${part}`, `${path}/${part}`);
  }
  const index = JSON.parse(await Deno.readTextFile(`${goldens}/sd1-mini/model_index.json`));
  index.safety_checker = ["stable_diffusion", "StableDiffusionSafetyChecker"];
  index.feature_extractor = ["transformers", "CLIPImageProcessor"];
  index.requires_safety_checker = true;
  change(index);
  await Deno.writeTextFile(`${path}/model_index.json`, JSON.stringify(index));
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** The warnings printed while `body` runs. */
async function warningsOf(body: () => Promise<void>): Promise<string[]> {
  const { warn } = console;
  const warnings: string[] = [];
  console.warn = (text: string) => void warnings.push(text);
  try {
    await body();
  } finally {
    console.warn = warn;
  }
  return warnings;
}

const seeds = [1, 2, 3, 4, 5, 6, 7, 8];
const drawing = (seed: number) => ({ numInferenceSteps: 1, generator: new TorchGenerator(seed) });

gpuTest("flagged pictures are black and reported, others are unchanged; latents are not checked", async (gpu) => {
  await using model = await checkedModel();
  using pipe = await StableDiffusionPipeline.fromPretrained(model.path, { gpu });
  const { safetyChecker, featureExtractor, ...parts } = pipe.components;
  const unchecked = new StableDiffusionPipeline(parts);
  assertEquals(unchecked.safetyChecker, undefined);
  const prompts = seeds.map(() => "a rose");
  const options = () => ({ ...drawing(0), generator: seeds.map((seed) => new TorchGenerator(seed)) });
  const plain = await unchecked.generate(prompts, { ...options(), outputType: "array" });
  assertEquals(plain.nsfwContentDetected, null);
  const perPicture = plain.images.length / seeds.length, side = Math.sqrt(perPicture / 3);
  const expected: boolean[] = [];
  for (const picture of picturesFromFloats(plain.images, { width: side, height: side })) {
    using values = Tensor.from(gpu, featureExtractor!.preprocess(picture), [1, 3, 32, 32]);
    expected.push(...await safetyChecker!.check(values));
  }
  assertEquals(new Set(expected), new Set([true, false]), "both verdicts occur");
  let checked!: Awaited<ReturnType<typeof pipe.generate<"array">>>;
  const warnings = await warningsOf(async () => {
    checked = await pipe.generate(prompts, { ...options(), outputType: "array" });
  });
  assertEquals(checked.nsfwContentDetected, expected);
  assertEquals(warnings.length, 1);
  assert(warnings[0].includes(`${expected.filter(Boolean).length} of ${seeds.length}`), warnings[0]);
  expected.forEach((isFlagged, i) => {
    const [from, to] = [i * perPicture, (i + 1) * perPicture];
    assertEquals(
      checked.images.subarray(from, to),
      isFlagged ? new Float32Array(perPicture) : plain.images.subarray(from, to),
    );
  });
  await warningsOf(async () => {
    const { images, nsfwContentDetected } = await pipe.generate(prompts, options());
    assertEquals(nsfwContentDetected, expected);
    images.forEach(({ bitmap }, i) => {
      assertEquals(bitmap.data.every((byte, place) => byte === (place % 4 === 3 ? 255 : 0)), expected[i]);
    });
    const latents = await pipe.generate(prompts, { ...options(), outputType: "latent" });
    latents.images[Symbol.dispose]();
    assertEquals(latents.nsfwContentDetected, null);
  });
});

gpuTest(
  "safetyChecker: null loads neither checker nor extractor, does not need their files, and warns once",
  async (gpu) => {
    await using model = await checkedModel();
    const silent = await warningsOf(async () => {
      using pipe = await StableDiffusionPipeline.fromPretrained(model.path, { gpu });
      const { requiresSafetyChecker } = new StableDiffusionPipeline({ ...pipe.components, safetyChecker: null }, {
        requiresSafetyChecker: false,
      });
      assertEquals([pipe.requiresSafetyChecker, requiresSafetyChecker], [true, false]);
    });
    assertEquals(silent, []);
    const warnings = await warningsOf(async () => {
      for (const kind of [StableDiffusionPipeline, StableDiffusionModelEditingPipeline]) {
        using pipe = await kind.fromPretrained(model.path, { gpu, safetyChecker: null });
        assertEquals([pipe.safetyChecker, pipe.featureExtractor], [undefined, undefined]);
        assertEquals((await pipe.generate("a rose", { ...drawing(1), outputType: "array" })).nsfwContentDetected, null);
      }
    });
    assertEquals(warnings.length, 1);
    assert(warnings[0].includes("safetyChecker: null"), warnings[0]);
    const tree = await directoryTree(model.path);
    const parts = async (without: readonly ("safety_checker" | "feature_extractor")[]) =>
      new Set((await pipelineFiles(tree, { without })).map((path) => path.split("/")[0]));
    assertEquals(
      (await parts([])).difference(await parts(["safety_checker", "feature_extractor"])),
      new Set(["safety_checker", "feature_extractor"]),
    );
  },
);

gpuTest("a safety checker without a feature extractor is rejected by the constructor and in a folder", async (gpu) => {
  await using model = await checkedModel();
  using pipe = await StableDiffusionPipeline.fromPretrained(model.path, { gpu });
  assertThrows(
    () => new StableDiffusionPipeline({ ...pipe.components, featureExtractor: null }),
    CheckpointError,
    "needs a feature extractor",
  );
  await using broken = await checkedModel((index) => index.feature_extractor = [null, null]);
  await assertRejects(
    () => StableDiffusionPipeline.fromPretrained(broken.path, { gpu }),
    CheckpointError,
    "names a safety_checker and no feature_extractor",
  );
});

gpuTest("savePretrained() saves checker and extractor; the saved pipeline flags the same pictures", async (gpu) => {
  await using model = await checkedModel();
  await using folder = await temporaryFolder();
  const saved = `${folder.path}/saved`;
  const draw = async (pipe: StableDiffusionPipeline) =>
    await pipe.generate("a rose", { ...drawing(1), outputType: "array" });
  await warningsOf(async () => {
    // sd1-mini has an fp16 variant of every part except the checker, which is loaded in f32.
    using pipe = await StableDiffusionPipeline.fromPretrained(model.path, { gpu, variant: "fp16" });
    await pipe.savePretrained(saved);
    using again = await StableDiffusionPipeline.fromPretrained(saved, { gpu });
    assertEquals(again.featureExtractor!.config, pipe.featureExtractor!.config);
    assertEquals(await draw(again), await draw(pipe));
  });
  const index = JSON.parse(await Deno.readTextFile(`${saved}/model_index.json`));
  assertEquals(index.requires_safety_checker, true);
  assertEquals(index.safety_checker, ["stable_diffusion", "StableDiffusionSafetyChecker"]);
  assertEquals(index.feature_extractor, ["transformers", "CLIPImageProcessor"]);
});
