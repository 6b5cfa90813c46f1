import { assertEquals, assertRejects } from "@std/assert";
import { Tensor } from "../../../engine/tensor.ts";
import { ActivationRangeError, NonFiniteError } from "../../../pipeline/errors.ts";
import { FiniteWatch } from "../../../pipeline/generation/finite_watch.ts";
import { StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { StableDiffusionXLPipeline } from "../../../pipeline/stable_diffusion_xl.ts";
import { EulerAncestralDiscreteScheduler } from "../../../schedulers/mod.ts";
import { gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

const outputTypes = ["latent", "array", "image"] as const;

/** Observes steps without waiting for them; those from `broken` on hold a NaN in one plane. */
async function observed(watch: FiniteWatch, steps: number, broken: number, gpu: Tensor["gpu"]): Promise<number> {
  const values = (step: number) =>
    Float32Array.from({ length: 2 * 4 * 9 }, (_, i) => step >= broken && i === 40 ? NaN : 1);
  let step = 0;
  for (; step < steps; step++) {
    using sample = Tensor.from(gpu, values(step), [2, 4, 3, 3]);
    try {
      await watch.observe(step, sample, { now: false });
    } catch (error) {
      assertEquals((error as NonFiniteError).step, broken);
      return step;
    }
  }
  await assertRejects(() => watch.finish(), NonFiniteError, `after step ${broken + 1}`);
  return step;
}

gpuTest("a run ends one step after the first that is not finite, or within 16 where a step is short", async (gpu) => {
  const ends = async (stepMs: number, broken: number) => {
    let now = 0;
    using watch = new FiniteWatch(undefined, () => now += stepMs);
    return await observed(watch, 30, broken, gpu);
  };
  assertEquals(await ends(1000, 0), 1);
  assertEquals(await ends(1000, 20), 21);
  assertEquals(await ends(0, 0), 1, "the first steps are checked at once on any device");
  const end = await ends(0, 5);
  assertEquals(end > 6 && end < 5 + 16, true, `steps are checked in groups: ${end}`);
  assertEquals(await ends(0, 29), 30, "the last steps are checked at the end");
});

gpuTest("numbers that are no numbers end a run of any output type, editing, batch and callback", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  await pipe.editModel("roses", "blue roses");
  pipe.scheduler = EulerAncestralDiscreteScheduler.fromConfig(pipe.scheduler.config);
  using promptEmbeds = Tensor.from(gpu, new Float32Array(77 * 48).fill(3e38), [1, 77, 48]);
  for (const outputType of outputTypes) {
    for (const options of [{}, { numImagesPerPrompt: 2 }, { callback: () => {} }]) {
      const broken = pipe.generate(undefined, { promptEmbeds, numInferenceSteps: 4, outputType, ...options });
      assertEquals((await assertRejects(() => broken, NonFiniteError, "after step 1")).step, 0);
    }
  }
  // In a batch, one prompt of two is enough.
  const half = Float32Array.from({ length: 2 * 77 * 48 }, (_, i) => i < 77 * 48 ? 0.1 : 3e38);
  using mixed = Tensor.from(gpu, half, [2, 77, 48]);
  const batch = pipe.generate(undefined, { promptEmbeds: mixed, numInferenceSteps: 2, outputType: "array" });
  await assertRejects(() => batch, NonFiniteError, "after step 1");
});

gpuTest("SDXL: numbers that are no numbers end a run of any output type", async (gpu) => {
  using pipe = await StableDiffusionXLPipeline.fromPretrained(`${goldens}/sdxl-mini`, { gpu });
  const plain = await pipe.encodePrompt("a rose");
  using held = new DisposableStack();
  for (const tensor of Object.values(plain)) if (tensor instanceof Tensor) held.use(tensor);
  const promptEmbeds = { data: new Float32Array(plain.promptEmbeds.size).fill(3e38), shape: plain.promptEmbeds.shape };
  const { pooledPromptEmbeds } = plain;
  for (const outputType of outputTypes) {
    const broken = pipe.generate(undefined, { promptEmbeds, pooledPromptEmbeds, numInferenceSteps: 3, outputType });
    assertEquals((await assertRejects(() => broken, NonFiniteError, "after step 1")).step, 0);
  }
});

gpuTest("an autoencoder that decodes to NaN or infinities is refused; latents stay", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  const { vae } = pipe;
  const { decode } = vae;
  for (const value of [NaN, Infinity, -Infinity]) {
    vae.decode = (latents) => {
      using whole = decode.call(vae, latents);
      return Tensor.from(gpu, Float32Array.from({ length: whole.size }, (_, i) => i === 99 ? value : 0), whole.shape);
    };
    for (const outputType of ["array", "image"] as const) {
      const broken = pipe.generate("a rose", { numInferenceSteps: 1, outputType });
      assertEquals((await assertRejects(() => broken, NonFiniteError, "autoencoder")).step, undefined);
    }
  }
  const { images } = await pipe.generate("a rose", { numInferenceSteps: 1, outputType: "latent" });
  images[Symbol.dispose]();
});

gpuTest("under f16 activations, the error is of their range", async (gpu) => {
  const options = { gpu, activations: "f16" } as const;
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, options);
  using promptEmbeds = Tensor.from(gpu, new Float32Array(77 * 48).fill(3e38), [1, 77, 48]);
  const broken = pipe.generate(undefined, { promptEmbeds, numInferenceSteps: 2, outputType: "latent" });
  await assertRejects(() => broken, ActivationRangeError, "step 1 gives NaN");
});
