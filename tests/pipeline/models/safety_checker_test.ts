import { assertEquals, assertRejects } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import type { Gpu, GpuOptions } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { CheckpointError } from "../../../pipeline/errors.ts";
import { CLIPImageProcessor } from "../../../pipeline/image/clip_image_processor.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import { memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { parseCLIPConfig } from "../../../pipeline/checkpoint/diffusers/config/clip.ts";
import { readConfig } from "../../../pipeline/checkpoint/diffusers/config/fields.ts";
import { Weights } from "../../../pipeline/checkpoint/safetensors/weights.ts";
import { openWeights } from "../../../pipeline/checkpoint/safetensors/weight_files.ts";
import { cosines } from "../../../pipeline/models/cosines.ts";
import { StableDiffusionSafetyChecker } from "../../../pipeline/models/safety_checker.ts";
import { loadGoldens } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens, pocket } from "../../paths.ts";

const folder = `${goldens}/safety_checker`;
const { tensors } = await loadGoldens("safety");
const indices = [0, 1, 2, 3, 4, 5];

function goldenTest(on: string, options: GpuOptions): void {
  gpuTest(`StableDiffusionSafetyChecker gives the golden embeddings and verdicts${on}`, async (gpu) => {
    using checker = await StableDiffusionSafetyChecker.fromPretrained(folder, { gpu });
    const extractor = await CLIPImageProcessor.fromPretrained(`${goldens}/feature_extractor`);
    const values = indices.map((i) => {
      const { data, shape: [height, width] } = tensors.get(`image.${i}`)!;
      return extractor.preprocess({ data: Uint8Array.from(data), width, height });
    });
    const verdicts = indices.map((i) => tensors.get(`nsfw.${i}`)!.data[0] === 1);
    assertEquals(new Set(verdicts), new Set([true, false]), "both verdicts occur");
    for (const i of indices) {
      using pixelValues = Tensor.from(gpu, values[i], [1, 3, 32, 32]);
      using embeddings = checker.embed(pixelValues);
      // f32 rounding of sums of up to 192 products through some twenty layers
      assertClose(await embeddings.data(), tensors.get(`image_embeds.${i}`)!.data, 2e-5, `image_embeds.${i}`);
      assertEquals(await checker.check(pixelValues), [verdicts[i]], `nsfw.${i}`);
    }
    using batch = Tensor.from(gpu, Float32Array.from(values.flatMap((picture) => [...picture])), [6, 3, 32, 32]);
    assertEquals(await checker.check(batch), verdicts, "all at once");
  }, options);
}

goldenTest("", {});
goldenTest(" on a device without subgroups", { withoutFeatures: ["subgroups", "wgpu-shader-f64"] });

/** Weights with some tensors replaced. */
class ReplacedWeights extends Weights {
  readonly name: string;
  readonly tensors: Weights["tensors"];
  readonly metadata: Weights["metadata"];

  constructor(readonly weights: Weights, readonly replacements: ReadonlyMap<string, Float32Array<ArrayBuffer>>) {
    super();
    ({ name: this.name, tensors: this.tensors, metadata: this.metadata } = weights);
  }

  async readRange(name: string, from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
    const replacement = this.replacements.get(name);
    return replacement === undefined
      ? await this.weights.readRange(name, from, to)
      : new Uint8Array(replacement.buffer).slice(from, to);
  }

  close(): void {}
}

/**
 * The verdict on the first golden picture, with thresholds set from its cosine with each concept c.
 */
async function checkWith(gpu: Gpu, thresholds: {
  special: (cosine: number, c: number) => number;
  concepts: (cosine: number, c: number) => number;
}): Promise<boolean> {
  const tree = await directoryTree(folder);
  using weights = await openWeights(tree, "model");
  const picture = Float32Array.from(tensors.get("image_embeds.0")!.data);
  const replaced = async (key: string, of: (cosine: number, c: number) => number) => {
    const bytes = await weights.readRange(key, 0, weights.info(key).bytes);
    const likeness = cosines(picture, new Float32Array(bytes.slice().buffer), { width: picture.length });
    return [`${key}_weights`, Float32Array.from(likeness, of)] as const;
  };
  const replacements = new Map([
    await replaced("special_care_embeds", thresholds.special),
    await replaced("concept_embeds", thresholds.concepts),
  ]);
  const config = await readConfig(tree, "config.json", parseCLIPConfig);
  using checker = await StableDiffusionSafetyChecker.fromWeights(
    config,
    new ReplacedWeights(weights, replacements),
    { gpu },
  );
  using pixelValues = Tensor.from(gpu, Float32Array.from(tensors.get("pixel_values.0")!.data), [1, 3, 32, 32]);
  return (await checker.check(pixelValues))[0];
}

/** A threshold above every cosine. */
const never = () => 2;

gpuTest("a picture is flagged for scores above 0.0005, which do not round to 0 at 3 decimals", async (gpu) => {
  for (const [excess, expected] of [[0.0006, true], [0.0004, false], [-0.0001, false]] as const) {
    const concepts = (cosine: number, c: number) => c === 16 ? cosine - excess : 2;
    assertEquals(await checkWith(gpu, { special: never, concepts }), expected, `${excess}`);
  }
});

gpuTest(
  "a special-care concept flags no picture itself, and raises all following scores by 0.01, once",
  async (gpu) => {
    /** Thresholds that only concept 3 comes near: its cosine is below its threshold by `lack`. */
    const lacking = (lack: number) => (cosine: number, c: number) => c === 3 ? cosine + lack : 2;
    const met = (cosine: number) => cosine - 0.1;
    assertEquals(await checkWith(gpu, { special: met, concepts: never }), false);
    assertEquals(await checkWith(gpu, { special: met, concepts: lacking(0.009) }), true);
    assertEquals(await checkWith(gpu, { special: met, concepts: lacking(0.0096) }), false);
    assertEquals(await checkWith(gpu, { special: never, concepts: lacking(0.009) }), false);
    // A match of the first special-care concept lowers the threshold of the last one, so that it
    // also matches.
    const last = (cosine: number, c: number) => c === 2 ? cosine + 0.009 : 2;
    assertEquals(await checkWith(gpu, { special: last, concepts: lacking(0.009) }), false);
    const firstAndLast = (cosine: number, c: number) => c === 0 ? cosine - 0.001 : last(cosine, c);
    assertEquals(await checkWith(gpu, { special: firstAndLast, concepts: lacking(0.009) }), true);
  },
);

gpuTest("wrong picture sizes and incomplete folders are rejected", async (gpu) => {
  using checker = await StableDiffusionSafetyChecker.fromPretrained(folder, { gpu });
  using large = Tensor.from(gpu, new Float32Array(3 * 64 * 64), [1, 3, 64, 64]);
  await assertRejects(() => checker.check(large), ShapeError, "takes [B, 3, 32, 32]");
  await assertRejects(
    () => StableDiffusionSafetyChecker.fromPretrained(memoryTree({}, "empty"), { gpu }),
    CheckpointError,
    "empty/config.json",
  );
  const clip = `${pocket}/clip`;
  await assertRejects(
    () => StableDiffusionSafetyChecker.fromPretrained(clip, { gpu }),
    CheckpointError,
    "vision_model.vision_model.embeddings.class_embedding",
  );
});
