import { assertEquals } from "@std/assert";
import type { Gpu, GpuOptions } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { CLIPTextModel } from "../../../pipeline/models/clip_text.ts";
import { UNet2DConditionModel } from "../../../pipeline/models/unet.ts";
import { AutoencoderKL } from "../../../pipeline/models/vae.ts";
import { type GoldenTensor, loadGoldens } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

/**
 * Largest relative error against the reference models: f32 rounding through some hundred layers.
 */
const tolerance = 2e-5;

const folder = (path: string) => `${goldens}/${path}`;
const upload = (gpu: Gpu, { data, shape }: GoldenTensor) => Tensor.from(gpu, Float32Array.from(data), shape);

function modelTests(name: string, options: GpuOptions, on: string): void {
  gpuTest(
    `CLIPTextModel computes the golden hidden states, pooled rows and clip skips of ${name}${on}`,
    async (gpu) => {
      const { tensors } = await loadGoldens(name);
      const { data, shape: [rows, length] } = tensors.get("text.input_ids")!;
      const ids = Array.from({ length: rows }, (_, row) => [...data.subarray(row * length, (row + 1) * length)]);
      using model = await CLIPTextModel.fromPretrained(folder(`${name}/text_encoder`), { gpu });
      for (const [clipSkip, key] of ["last_hidden_state", "clip_skip_1", "clip_skip_2"].entries()) {
        const { lastHiddenState, poolerOutput } = model.forward(ids, { clipSkip });
        using states = lastHiddenState;
        using pooled = poolerOutput;
        assertClose(await states.data(), tensors.get(`text.${key}`)!.data, tolerance, key);
        assertClose(await pooled.data(), tensors.get("text.pooler_output")!.data, tolerance, "pooler_output");
      }
    },
    options,
  );

  gpuTest(`UNet2DConditionModel computes the golden noise and activations of ${name}${on}`, async (gpu) => {
    const { tensors } = await loadGoldens(name);
    using unet = await UNet2DConditionModel.fromPretrained(folder(`${name}/unet`), { gpu });
    const observed: { path: string; output: Tensor }[] = [];
    for (const letter of ["a", "b", "c"]) {
      using sample = upload(gpu, tensors.get(`unet.${letter}.sample`)!);
      using context = upload(gpu, tensors.get(`unet.${letter}.context`)!);
      const timestep = tensors.get(`unet.${letter}.timestep`)!.data[0];
      const observe = (path: string, output: Tensor) => {
        if (letter === "a" && tensors.has(`unet.a.act.${path}`)) {
          observed.push({ path, output: output.reshape(output.shape).keep() });
        }
      };
      using noise = unet.forward(sample, timestep, context, { observe });
      assertClose(await noise.data(), tensors.get(`unet.${letter}.out`)!.data, tolerance, letter);
      using prepared = unet.prepareContext(context);
      using again = unet.forward(sample, timestep, prepared);
      assertEquals(await again.data(), await noise.data());
    }
    const wanted = [...tensors.keys()].filter((key) => key.startsWith("unet.a.act.")).map((key) =>
      key.slice("unet.a.act.".length)
    );
    assertEquals(observed.map(({ path }) => path).sort(), wanted.sort());
    for (const { path, output } of observed) {
      assertClose(await output.data(), tensors.get(`unet.a.act.${path}`)!.data, tolerance, path);
      output[Symbol.dispose]();
    }
  }, options);

  gpuTest(`AutoencoderKL encodes and decodes as the goldens of ${name}${on}`, async (gpu) => {
    const { tensors } = await loadGoldens(name);
    using vae = await AutoencoderKL.fromPretrained(folder(`${name}/vae`), { gpu });
    using image = upload(gpu, tensors.get("vae.image")!);
    const { mean, logvar } = vae.encode(image);
    using mu = mean;
    using log = logvar;
    assertClose(await mu.data(), tensors.get("vae.mean")!.data, tolerance, "mean");
    assertClose(await log.data(), tensors.get("vae.logvar")!.data, tolerance, "logvar");
    using latents = upload(gpu, tensors.get("vae.latents")!);
    using decoded = vae.decode(latents);
    assertClose(await decoded.data(), tensors.get("vae.decoded")!.data, tolerance, "decoded");
  }, options);
}

for (const name of ["sd1-mini", "sd2-mini"]) modelTests(name, {}, "");
modelTests("sd1-mini", { withoutFeatures: ["subgroups", "wgpu-shader-f64"] }, " on a device without subgroups");
