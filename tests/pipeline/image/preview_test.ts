import { assert, assertEquals, assertRejects } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { previewFromLatents } from "../../../pipeline/image/preview.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { DDIMScheduler, TorchGenerator } from "../../../schedulers/mod.ts";
import { gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

gpuTest(
  "previewFromLatents() maps the channels at each position to a pixel: (1 + scale · Σ latent · factor) / 2, clamped",
  async (gpu) => {
    // Two pictures of 1 × 2 pixels. The first: gray, and the first channel's color. The second: a
    // value that is clamped, and the fourth channel's color.
    using latents = Tensor.from(gpu, new Float32Array([0, 1, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 1]), [
      2,
      4,
      1,
      2,
    ]);
    const [first, second] = await previewFromLatents(latents);
    const byte = (value: number) => Math.round(255 * (1 + value) / 2);
    assertEquals([...first.data], [128, 128, 128, byte(0.298), byte(0.207), byte(0.208)]);
    assertEquals([...second.data], [255, 255, 255, byte(-0.184), byte(-0.271), byte(-0.473)]);
    assertEquals([first.width, first.height], [2, 1]);
    const [halved] = await previewFromLatents(latents, { scale: 0.5 });
    assertEquals(halved.data[3], byte(0.149));
    const own = await previewFromLatents(latents, { factors: [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]] });
    assertEquals([...own[0].data.subarray(3)], [255, 128, 128]);
    await assertRejects(
      () => previewFromLatents(latents, { factors: [[1, 1, 1]] }),
      ShapeError,
      "factors for 1 channels, not 4",
    );
  },
);

gpuTest("a callback can preview each step", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  // PNDM calls the model once more than the number of steps.
  pipe.scheduler = DDIMScheduler.fromConfig(pipe.scheduler.config);
  const seen: Uint8Array[] = [];
  await pipe.generate("a rose", {
    numInferenceSteps: 2,
    generator: new TorchGenerator(1),
    outputType: "array",
    callback: async (_step, _timestep, latents) => {
      const [{ data, width, height }] = await previewFromLatents(latents);
      assertEquals([height, width], latents.shape.slice(2));
      seen.push(data);
    },
  });
  assertEquals(seen.length, 2);
  assert(seen[0].some((byte, i) => byte !== seen[1][i]), "steps differ");
});
