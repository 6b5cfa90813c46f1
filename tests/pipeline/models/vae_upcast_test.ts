import { assert, assertEquals, assertRejects } from "@std/assert";
import { hollowCheckpoint } from "../../../bench/measure/hollow_checkpoint.ts";
import { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import type { AutoencoderKLConfig } from "../../../pipeline/checkpoint/diffusers/config/vae.ts";
import { openWeights } from "../../../pipeline/checkpoint/safetensors/weight_files.ts";
import { NonFiniteError } from "../../../pipeline/errors.ts";
import { decodeLatents } from "../../../pipeline/generation/decoding.ts";
import { loadAutoencoder } from "../../../pipeline/models/autoencoder.ts";
import { openPipeline } from "../../../pipeline/open_pipeline.ts";
import { StableDiffusionXLPipeline } from "../../../pipeline/stable_diffusion_xl.ts";
import { TorchGenerator } from "../../../schedulers/mod.ts";
import { assertClose, f32Tolerance, gpuTest, lackOf } from "../../gpu.ts";
import { goldens } from "../../paths.ts";
import { fileOf } from "../checkpoint/ldm/ldm_files.ts";

const mini = `${goldens}/sdxl-mini`;
const groups = { norm_num_groups: 8, sample_size: 32 };

/** The mini model's autoencoder; `factor` scales what the decoder's first layer writes. */
async function vaeFile(factor: number) {
  using weights = await openWeights(await directoryTree(`${mini}/vae`), "diffusion_pytorch_model");
  const entries = await Promise.all([...weights.tensors].map(async ([name, { shape }]) => {
    const scale = name.startsWith("decoder.conv_in.") ? factor : 1;
    const values = Float32Array.from(await weights.float32(name), (value) => scale * value);
    return { name, shape, dtype: "F32" as const, chunks: () => [new Uint8Array(values.buffer)] };
  }));
  return await fileOf(entries, "vae.safetensors");
}

/** Decodes the same latents, after a pipeline's other parts have been ignored. */
async function decoded(gpu: Gpu, factor: number, forceUpcast: boolean): Promise<Float32Array> {
  const config = { ...groups, force_upcast: forceUpcast };
  using vae = await loadAutoencoder(await vaeFile(factor), { gpu, family: "sdxl", config });
  using latents = Tensor.from(gpu, new Float32Array(new TorchGenerator(3).randn([1, 4, 16, 16])), [1, 4, 16, 16]);
  using picture = vae.decode(latents);
  return await picture.data();
}

/** The longest sums of the mini autoencoder: 32 channels of 3 × 3. */
const longestSum = 9 * 32;
/** Ten layers behind each other, each of which rounds by as much. */
const layers = 10;

gpuTest(
  "an autoencoder with force_upcast decodes in f32 what overflows f16, on a device of f16 arithmetic",
  async (half) => {
    using whole = await Gpu.request();
    // Activations of 10⁶, beyond f16's 65504; each norm brings them back.
    const expected = await decoded(whole, 1e6, true);
    assert(expected.every(Number.isFinite));
    assertClose(await decoded(half, 1e6, true), expected, layers * f32Tolerance(longestSum));
    assert((await decoded(half, 1e6, false)).some(Number.isNaN), "nothing overflows without force_upcast");
  },
  { arithmetic: "f16" },
  await lackOf("shader-f16"),
);

gpuTest(
  "an autoencoder corrected for f16 loads as it is, and computes in f16 where that is asked for",
  async (half) => {
    using whole = await Gpu.request();
    const expected = await decoded(whole, 1, false);
    const rounded = await decoded(half, 1, false);
    assert(rounded.some((value, i) => value !== expected[i]), "computed in f32");
    // Operands are rounded by 2⁻¹¹ and sums of 16 in f16, in each of the layers.
    assertClose(rounded, expected, layers * 16 * 2 ** -11);
    assertEquals(await decoded(whole, 1, true), expected); // in f32, it changes nothing
  },
  { arithmetic: "f16" },
  await lackOf("shader-f16"),
);

gpuTest("pictures with f16 activations come from an autoencoder in f32", async (gpu) => {
  using vae = await loadAutoencoder(await vaeFile(1e6), { gpu, family: "sdxl", config: groups });
  using pipe = await StableDiffusionXLPipeline.fromPretrained(mini, { gpu, vae, activations: "f16" });
  const settings = { numInferenceSteps: 2, height: 32, width: 32, generator: 7 } as const;
  const { images: picture } = await pipe.generate("a rose", { ...settings, outputType: "array" });
  const { images } = await pipe.generate("a rose", { ...settings, outputType: "latent" });
  using latents = images;
  const { values } = await decodeLatents(vae, latents, { slicing: false, tiling: false });
  assert(values.every(Number.isFinite));
  assertEquals([...picture], [...values]);
});

gpuTest(
  "what overflows without force_upcast is refused, with what to do",
  async (gpu) => {
    const config = { ...groups, force_upcast: false };
    using vae = await loadAutoencoder(await vaeFile(1e6), { gpu, family: "sdxl", config });
    using pipe = await StableDiffusionXLPipeline.fromPretrained(mini, { vae });
    await assertRejects(
      () => pipe.generate("a rose", { numInferenceSteps: 1, height: 32, width: 32 }),
      NonFiniteError,
      'arithmetic: "f32"',
    );
  },
  { arithmetic: "f16" },
  await lackOf("shader-f16"),
);

Deno.test("an autoencoder in a file of its own is read by the model's family: SDXL scales latents by 0.13025", async () => {
  using gpu = Gpu.null();
  for (const [model, factor, side] of [["sdxl", 0.13025, 1024], ["sd14", 0.18215, 512]] as const) {
    const tree = await hollowCheckpoint(model);
    const file = await tree.subtree("vae").open("diffusion_pytorch_model.safetensors");
    using pipe = await openPipeline(tree, { gpu, vae: file, ...(model === "sd14" ? { safetyChecker: null } : {}) });
    const { scalingFactor, sampleSize, forceUpcast } = pipe.vae.config as AutoencoderKLConfig;
    assertEquals([scalingFactor, sampleSize, forceUpcast], [factor, side, true], model);
  }
  using tiny = await loadAutoencoder(`${goldens}/tiny-vae/diffusion_pytorch_model.safetensors`, {
    gpu,
    family: "sdxl",
  });
  assertEquals(tiny.config.scalingFactor, 1);
});
