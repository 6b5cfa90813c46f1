import { assertEquals } from "@std/assert";
import { Tensor } from "../../../engine/tensor.ts";
import { AutoencoderKL } from "../../../pipeline/models/vae.ts";
import { slice } from "../../../kernels/shape/slice.ts";
import { decodeLatents } from "../../../pipeline/generation/decoding.ts";
import { loadGoldens } from "../../goldens.ts";
import { assertClose, gpuTest, randomArray } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

gpuTest(
  "tiled decoding equals diffusers' for sizes that tiles do not divide, batched and sliced",
  async (gpu) => {
    const { tensors } = await loadGoldens("reference/vae_tiling");
    const { data, shape } = tensors.get("latents")!;
    const decoded = tensors.get("decoded")!;
    using vae = await AutoencoderKL.fromPretrained(`${goldens}/sd1-mini/vae`, { gpu });
    // decodeLatents takes scaled latents, as the UNet produces them.
    using latents = Tensor.from(gpu, Float32Array.from(data, (value) => value * vae.config.scalingFactor), shape);
    const [batch, channels, height, width] = decoded.shape;
    const expected = new Float32Array(decoded.data.length);
    for (let b = 0; b < batch; b++) {
      for (let c = 0; c < channels; c++) {
        for (let i = 0; i < height * width; i++) {
          const value = decoded.data[(b * channels + c) * height * width + i] / 2 + 0.5;
          expected[(b * height * width + i) * channels + c] = Math.min(Math.max(value, 0), 1);
        }
      }
    }
    for (const slicing of [false, true]) {
      const { values } = await decodeLatents(vae, latents, { slicing, tiling: true });
      assertClose(values, expected, 2e-5, slicing ? "sliced" : "batched");
    }
  },
);

gpuTest("an autoencoder of pictures smaller than four latents is tiled, too", async (gpu) => {
  using vae = await AutoencoderKL.fromPretrained(`${goldens}/sd1-mini/vae`, { gpu });
  const { spatialScale } = vae;
  using latents = Tensor.from(gpu, randomArray(4 * 3 * 5, 1), [1, 4, 3, 5]);
  for (const sampleSize of [1, spatialScale, 2 * spatialScale + 1, 3 * spatialScale]) {
    Object.assign(vae.config, { sampleSize });
    const side = Math.max(1, Math.floor(sampleSize / spatialScale));
    const { values, shape } = await decodeLatents(vae, latents, { slicing: false, tiling: true });
    assertEquals(shape, [1, 3 * spatialScale, 5 * spatialScale, 3]);
    // The upper left tile's first latent is under no neighbor's influence.
    using tile = gpu.scope(() => slice(slice(latents, 2, 0, Math.min(side, 3)), 3, 0, side));
    const alone = await decodeLatents(vae, tile, { slicing: false, tiling: false });
    const first = (pixels: Float32Array, width: number) =>
      Array.from(
        { length: spatialScale },
        (_, y) => [...pixels.subarray(y * width * 3, (y * width + spatialScale) * 3)],
      );
    assertEquals(first(values, shape[2]), first(alone.values, alone.shape[2]), `${sampleSize}`);
  }
});
