/** Previews fitted to a model's own autoencoder. */
import { assert, assertEquals } from "@std/assert";
import type { Tensor } from "../../engine/tensor.ts";
import { previewFromLatents } from "../../pipeline/image/preview.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import type { Picture } from "../../pipeline/image/picture.ts";
import { LatentPreview } from "../../studio/latent_preview.ts";
import { gpuTest } from "../gpu.ts";
import { pocket } from "../pocket_drawing.ts";

gpuTest("a preview shows the colors of the picture, of any autoencoder", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(pocket.pathname, { gpu });
  const options = { generator: 2n, numInferenceSteps: 6, guidanceScale: 5 };
  const { images: [image] } = await pipe.generate("a cat on the beach", options);
  const { images } = await pipe.generate("a cat on the beach", { ...options, outputType: "latent" });
  using latents = images as Tensor;
  const preview = await new LatentPreview(pipe).draw(latents, 1);
  assertEquals([preview.width, preview.height], [16, 16]);
  // Each preview pixel stands for 8 × 8 pixels: the error of their mean colors.
  const error = (shown: Picture): number => {
    let sum = 0;
    for (let i = 0; i < 3 * 16 * 16; i++) {
      const [color, x, y] = [i % 3, Math.floor(i / 3) % 16, Math.floor(i / 48)];
      let mean = 0;
      for (let at = 0; at < 64; at++) {
        mean += image.bitmap.data[4 * ((8 * y + (at >> 3)) * 128 + 8 * x + at % 8) + color] / 64;
      }
      sum += (shown.data[i] - mean) ** 2;
    }
    return Math.sqrt(sum / (3 * 16 * 16)) / 255;
  };
  const [ofStableDiffusion] = await previewFromLatents(latents);
  const [own, other] = [error(preview), error(ofStableDiffusion)];
  assert(own < other / 2, `${own}, where the map of Stable Diffusion's autoencoder gives ${other}`);
});
