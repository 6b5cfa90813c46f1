import { Tensor } from "../../../engine/tensor.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { TorchGenerator } from "../../../schedulers/mod.ts";
import { assertClose, f32Tolerance, gpuTest } from "../../gpu.ts";
import { withBindingLimit } from "../../kernels/oracles.ts";

gpuTest("all models compute the same where a device binds less than their activations", async (gpu) => {
  const images = 6, limit = 700_000; // above the largest weight, below most activations of 6 images
  using pipe = await StableDiffusionPipeline.fromPretrained("models/pocket", { gpu, safetyChecker: null });
  const ids = Array.from(
    { length: images },
    (_, i) => pipe.tokenizer.encode(["a rose", "a cup", "a hat"][i % 3], { padding: "max_length" }),
  );
  using states = gpu.scope(() => pipe.textEncoder.forward(ids).lastHiddenState);
  using context = pipe.unet.prepareContext(states);
  const side = pipe.unet.config.sampleSize!, shape = [images, 4, side, side];
  using latents = Tensor.from(gpu, new Float32Array(new TorchGenerator(1).randn(shape)), shape);
  const models: Record<string, () => Tensor> = {
    "text encoder": () => pipe.textEncoder.forward(ids).lastHiddenState,
    UNet: () => pipe.unet.forward(latents, 500, context),
    VAE: () => pipe.vae.decode(latents),
  };
  for (const [name, run] of Object.entries(models)) {
    using whole = gpu.scope(run);
    using parts = withBindingLimit(gpu, limit, () => gpu.scope(run));
    // A part may take another tile and sum in another order; the longest sum has 3² · 256 terms.
    assertClose(await parts.data(), await whole.data(), f32Tolerance(9 * 256), name);
  }
});
