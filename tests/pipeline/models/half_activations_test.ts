import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { ActivationRangeError } from "../../../pipeline/errors.ts";
import { UNet2DConditionModel } from "../../../pipeline/models/unet.ts";
import type { ActivationType } from "../../../pipeline/models/unet_blocks.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { TorchGenerator } from "../../../schedulers/mod.ts";
import { type GoldenTensor, loadGoldens, relativeError } from "../../goldens.ts";
import { assertClose, gpuTest, randomArray } from "../../gpu.ts";
import { withGpuPolicy } from "../../kernels/oracles.ts";
import { goldens } from "../../paths.ts";

/**
 * Storing a tensor in f16 changes it by at most 2^-11 of its norm (0.4 of that on average), each
 * time in a different direction. Norms and residual connections propagate a difference at about its
 * size, so the differences add up as a random walk: √N · 2^-11 after N tensors.
 *
 * The mini models store at most 317 tensors: 17 residual blocks of 4, 11 shortcuts, 11 transformers
 * of 19 (norm, transposition and projection in, 14 in the block, projection and transposition out),
 * 11 keys and values each, 4 changes of size, and 3 at the ends.
 */
const stored = 17 * 4 + 11 + 11 * 19 + 2 * 11 + 4 + 3;
const tolerance = Math.sqrt(stored) * 2 ** -11;

const folder = (path: string) => `${goldens}/${path}`;
const upload = (gpu: Gpu, { data, shape }: GoldenTensor) => Tensor.from(gpu, Float32Array.from(data), shape);

for (const name of ["sd1-mini", "sd2-mini"]) {
  gpuTest(`with f16 activations the UNet of ${name} computes the golden noise within their rounding`, async (gpu) => {
    const { tensors } = await loadGoldens(name);
    using unet = await UNet2DConditionModel.fromPretrained(folder(`${name}/unet`), { gpu, activations: "f16" });
    const types = new Map<string, string>();
    for (const letter of ["a", "b", "c"]) {
      using sample = upload(gpu, tensors.get(`unet.${letter}.sample`)!);
      using context = upload(gpu, tensors.get(`unet.${letter}.context`)!);
      const timestep = tensors.get(`unet.${letter}.timestep`)!.data[0];
      const golden = tensors.get(`unet.${letter}.out`)!.data;
      const forward = () =>
        unet.forward(sample, timestep, context, { observe: (path, { dtype }) => void types.set(path, dtype) });
      using noise = forward();
      using onGpu = withGpuPolicy(gpu, forward);
      assertEquals(noise.dtype, "f32");
      assertClose(await noise.data(), golden, tolerance, letter);
      assertClose(await onGpu.data(), golden, tolerance, `${letter}, as on a GPU`);
      assert(relativeError(await noise.data(), golden) > 1e-4, "f32 would come this close: nothing was rounded");
    }
    types.delete("time_embedding"); // f32 on purpose
    assertEquals(new Set(types.values()), new Set(["f16"]));
    unet.activations = "f32";
    using sample = upload(gpu, tensors.get("unet.a.sample")!);
    using context = upload(gpu, tensors.get("unet.a.context")!);
    using exact = unet.forward(sample, tensors.get("unet.a.timestep")!.data[0], context);
    assertClose(await exact.data(), tensors.get("unet.a.out")!.data, 2e-5, "changed to f32");
  });
}

gpuTest("a LoRA acts on f16 activations as on f32", async (gpu) => {
  const { tensors } = await loadGoldens("sd1-mini");
  using sample = upload(gpu, tensors.get("unet.a.sample")!);
  using context = upload(gpu, tensors.get("unet.a.context")!);
  const noises = async (activations: ActivationType) => {
    using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu, activations });
    const noise = async () => {
      using output = pipe.unet.forward(sample, 500, context);
      return await output.data();
    };
    const plain = await noise();
    await pipe.loadLoraWeights(folder("lora_kohya.safetensors"));
    return { plain, adapted: await noise() };
  };
  const [exact, rounded] = [await noises("f32"), await noises("f16")];
  // Each adapted layer also stores the sum of its updates: at most twice as many tensors.
  assertClose(rounded.adapted, exact.adapted, Math.SQRT2 * tolerance);
  assert(relativeError(rounded.plain, exact.adapted) > 4 * tolerance, "the LoRA must move more than rounding does");
});

gpuTest("pictures whose number of pixels is not divisible by four at every level are computed in f32", async (gpu) => {
  const forward = async (activations: ActivationType) => {
    using unet = await UNet2DConditionModel.fromPretrained(folder("sd1-mini/unet"), { gpu, activations });
    // 15 pixels on the second level
    using sample = Tensor.from(gpu, randomArray(4 * 6 * 10), [1, 4, 6, 10]);
    using context = Tensor.from(gpu, randomArray(77 * 48, 2), [1, 77, 48]);
    const types = new Set<string>();
    using noise = unet.forward(sample, 500, context, { observe: (_, { dtype }) => void types.add(dtype) });
    return { types, noise: await noise.data() };
  };
  const [exact, fallen] = [await forward("f32"), await forward("f16")];
  assertEquals(fallen.types, new Set(["f32"]));
  // Only the prompt's keys and values are rounded: they are computed before the size is known.
  assertClose(fallen.noise, exact.noise, Math.sqrt(2 * 11) * 2 ** -11);
});

gpuTest(
  "with f16 activations the pocket model's picture looks the same and takes 60 % of the memory",
  async (gpu) => {
    const draw = async (activations: ActivationType) => {
      using pipe = await StableDiffusionPipeline.fromPretrained(folder("../../models/pocket"), { gpu, activations });
      gpu.resetPeak();
      const before = gpu.memory.live;
      let bytes = 0; // of the denoising loop alone: the autoencoder decodes in f32 either way
      const { images } = await pipe.generate("a field of roses", {
        generator: new TorchGenerator(7),
        numInferenceSteps: 20,
        outputType: "array",
        callback: (step) => {
          if (step === 0) gpu.resetPeak(); // a rehearsal may have decoded before
          bytes = gpu.memory.peak - before;
        },
      });
      return { images, bytes };
    };
    const [exact, rounded] = [await draw("f32"), await draw("f16")];
    const differences = exact.images.map((value, i) => 255 * Math.abs(value - rounded.images[i]));
    const mean = differences.reduce((sum, difference) => sum + difference, 0) / differences.length;
    const largest = differences.reduce((a, b) => Math.max(a, b));
    // Rounding to 8 bits changes a value by up to half a gray level; differences below about 8 of
    // 255 are not visible.
    assert(mean > 0 && mean <= 0.5, `mean difference ${mean} of 255`);
    assert(largest <= 8, `largest difference ${largest} of 255`);
    // Half of the f32 memory, plus some tensors that are f32 in both cases.
    assert(rounded.bytes <= 0.6 * exact.bytes, `${rounded.bytes} bytes at most, ${exact.bytes} with f32`);
  },
);

gpuTest("values beyond the range of f16 are an error", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder("sd1-mini"), { gpu, activations: "f16" });
  const { inChannels, sampleSize } = pipe.unet.config;
  const shape = [1, inChannels, sampleSize!, sampleSize!];
  using latents = Tensor.from(gpu, randomArray(shape.reduce((a, b) => a * b)).map((value) => value * 1e7), shape);
  await assertRejects(
    () => pipe.generate("a rose", { latents, numInferenceSteps: 2 }),
    ActivationRangeError,
    "exceed 65504",
  );
});
