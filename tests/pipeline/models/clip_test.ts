import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import type { GpuOptions } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { CheckpointError, ConfigError, PromptError } from "../../../pipeline/errors.ts";
import { CLIPImageProcessor } from "../../../pipeline/image/clip_image_processor.ts";
import { ImageError } from "../../../pipeline/image/errors.ts";
import type { Picture } from "../../../pipeline/image/picture.ts";
import { memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { CLIPModel } from "../../../pipeline/models/clip.ts";
import { cosines } from "../../../pipeline/models/cosines.ts";
import { loadGoldens } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { pocket } from "../../paths.ts";

const folder = `${pocket}/clip`;

/**
 * f32 sums of up to 384 products (2⁻²⁴ · √384 ≈ 1.2e-6 each) through some thirty layers in
 * sequence, on both sides: 2e-5 leaves a factor of about three.
 */
const tolerance = 2e-5;

const { tensors, note } = await loadGoldens("../../models/pocket/clip/golden");
const golden = (key: string) => tensors.get(key)!;
const texts: string[] = note.texts;
const pictures: Picture[] = Array.from({ length: 7 }, (_, i) => {
  const { data, shape: [height, width] } = golden(`image.${i}`);
  return { data: Uint8Array.from(data), width, height };
});

/** Rows divided by their norms, as transformers' outputs are. */
function normalized(rows: Float32Array, width: number): Float32Array {
  return rows.map((value, i) => {
    const start = i - i % width;
    return value / Math.hypot(...rows.subarray(start, start + width));
  });
}

function goldenTest(on: string, options: GpuOptions): void {
  gpuTest(`CLIPModel computes transformers' embeddings of pictures and texts, and their logits${on}`, async (gpu) => {
    using clip = await CLIPModel.fromPretrained(folder, { gpu });
    const { data, shape: [rows, length] } = golden("input_ids");
    const ids = Array.from({ length: rows }, (_, row) => [...data.subarray(row * length, (row + 1) * length)]);
    using ofTexts = clip.getTextFeatures(ids);
    assertClose(normalized(await ofTexts.data(), 64), golden("text_embeds").data, tolerance, "text_embeds");
    using pixelValues = Tensor.from(gpu, Float32Array.from(golden("pixel_values").data), golden("pixel_values").shape);
    using ofImages = clip.getImageFeatures(pixelValues);
    assertClose(normalized(await ofImages.data(), 64), golden("image_embeds").data, tolerance, "image_embeds");
    assertClose(await clip.score(pictures, texts), golden("logits_per_image").data, tolerance, "logits_per_image");
  }, options);
}

goldenTest("", {});
goldenTest(" on a device without subgroups", { withoutFeatures: ["subgroups", "wgpu-shader-f64"] });

Deno.test("the model's image processor gives the golden pixel values", async () => {
  const processor = await CLIPImageProcessor.fromPretrained(folder);
  const { data } = golden("pixel_values");
  pictures.forEach((picture, i) => {
    assertEquals(processor.preprocess(picture), data.subarray(i * 3 * 64 * 64, (i + 1) * 3 * 64 * 64), `image.${i}`);
  });
});

gpuTest("a score does not depend on which and how many other pictures are scored", async (gpu) => {
  using clip = await CLIPModel.fromPretrained(folder, { gpu });
  const logits = golden("logits_per_image").data;
  const many = [...pictures, ...pictures, ...pictures.slice(0, 4)]; // more than a batch
  const prompts = Array.from({ length: 3 }, () => texts).flat();
  const scores = await clip.score(many, prompts);
  const expected = many.flatMap((_, i) => prompts.map((_, j) => logits[i % 7 * 6 + j % 6]));
  assertClose(scores, expected, tolerance);
  // Padded to another length, the same prompt keeps its score.
  assertClose(await clip.score([pictures[0]], [texts[1]]), [logits[1]], tolerance);
});

gpuTest("prompts longer than the text model allows are truncated and keep the end token", async (gpu) => {
  using clip = await CLIPModel.fromPretrained(folder, { gpu });
  const [cut, long] = await clip.score([pictures[0]], ["rose ".repeat(75), "rose ".repeat(200)]);
  assertEquals(cut, long);
});

gpuTest("CLIPModel rejects missing pictures or prompts, damaged pictures and wrong sizes", async (gpu) => {
  using clip = await CLIPModel.fromPretrained(folder, { gpu });
  await assertRejects(() => clip.score([], texts), ImageError, "Cannot score without pictures");
  await assertRejects(() => clip.score(pictures, []), PromptError, "without a prompt");
  await assertRejects(() => clip.score([{ ...pictures[0], width: 63 }], texts), ImageError, "63 × 64");
  using small = Tensor.from(gpu, new Float32Array(3 * 32 * 32), [1, 3, 32, 32]);
  assertThrows(() => clip.getImageFeatures(small), ShapeError, "takes [B, 3, 64, 64]");
  assertThrows(() => clip.getTextFeatures([[1, 653]]), ShapeError, "653");
});

gpuTest("folders that lack a part or belong to another model are rejected by name", async (gpu) => {
  const read = (path: string) => Deno.readFile(`${folder}/${path}`);
  const files = {
    "config.json": await read("config.json"),
    "preprocessor_config.json": await read("preprocessor_config.json"),
    "vocab.json": await read("vocab.json"),
    "merges.txt": await read("merges.txt"),
  };
  for (const missing of Object.keys(files)) {
    const rest = Object.fromEntries(Object.entries(files).filter(([path]) => path !== missing));
    await assertRejects(() => CLIPModel.fromPretrained(memoryTree(rest, "clip"), { gpu }), CheckpointError, missing);
  }
  await assertRejects(() => CLIPModel.fromPretrained(memoryTree(files, "clip"), { gpu }), CheckpointError, "clip");
  const config = JSON.parse(new TextDecoder().decode(files["config.json"]));
  const withConfig = (config: unknown, more: Record<string, Uint8Array> = {}) =>
    memoryTree({ ...files, ...more, "config.json": new TextEncoder().encode(JSON.stringify(config)) }, "clip");
  await assertRejects(
    () => CLIPModel.fromPretrained(withConfig({ ...config, model_type: "blip" }), { gpu }),
    ConfigError,
    "model_type",
  );
  const wider = { ...config, projection_dim: 65 };
  const weights = { "model.safetensors": await read("model.safetensors") };
  const error = await assertRejects(
    () => CLIPModel.fromPretrained(withConfig(wider, weights), { gpu }),
    CheckpointError,
  );
  for (const key of ["text_projection.weight", "visual_projection.weight"]) assert(error.message.includes(key));
});

Deno.test("cosines() compares all rows with all rows; the similarity of a zero row is 0", () => {
  const a = Float32Array.of(1, 0, 3, 4, 0, 0);
  const b = Float32Array.of(0, 2, -5, 0);
  assertEquals(cosines(a, b, { width: 2 }), Float64Array.of(0, -1, 0.8, -0.6, 0, 0).map((value) => value + 0));
});
