import { assert } from "@std/assert";
import { Tensor } from "../../../engine/tensor.ts";
import { UNet2DConditionModel } from "../../../pipeline/models/unet.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { DDIMScheduler } from "../../../schedulers/mod.ts";
import { loadGoldens } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

gpuTest("a UNet without a middle block computes what diffusers computes, alone and in a pipeline", async (gpu) => {
  const { tensors, note } = await loadGoldens("small_models");
  const golden = (name: string) => tensors.get(name)!;
  const upload = (name: string) => Tensor.from(gpu, Float32Array.from(golden(name).data), golden(name).shape);
  using unet = await UNet2DConditionModel.fromPretrained(`${goldens}/tiny-sd/unet`, { gpu });
  for (const size of ["even", "odd"]) {
    using sample = upload(`unet.${size}.sample`);
    using context = upload(`unet.${size}.context`);
    using noise = unet.forward(sample, 601, context);
    assertClose(await noise.data(), golden(`unet.${size}.out`).data, 2e-5, size);
  }
  assert(unet.crossAttentions.every(({ path }) => !path.startsWith("mid_block")));
  using mini = await StableDiffusionPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  const scheduler = DDIMScheduler.fromConfig(mini.scheduler.config, { clip_sample: false });
  using pipe = new StableDiffusionPipeline({ ...mini.components, unet, scheduler });
  using latents = upload("pipe.start");
  const { images } = await pipe.generate(note.prompt, {
    latents,
    numInferenceSteps: note.steps,
    guidanceScale: note.guidance,
    outputType: "latent",
  });
  using drawn = images;
  assertClose(await drawn.data(), golden("pipe.latents").data, 1e-4, "latents");
});
