import { Tensor } from "../../../engine/tensor.ts";
import { AutoencoderKL } from "../../../pipeline/models/vae.ts";
import { decodeLatents } from "../../../pipeline/generation/decoding.ts";
import { loadGoldens } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
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
