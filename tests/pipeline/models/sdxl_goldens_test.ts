import { assertEquals, assertThrows } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { OptionError } from "../../../pipeline/errors.ts";
import { CLIPTextModel } from "../../../pipeline/models/clip_text.ts";
import { CLIPTextModelWithProjection } from "../../../pipeline/models/clip_text_projection.ts";
import { AutoencoderKL } from "../../../pipeline/models/vae.ts";
import { UNet2DConditionModel } from "../../../pipeline/models/unet.ts";
import { type GoldenTensor, loadGoldens, relativeError } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

/** Largest relative error, as that of the other models: f32 rounding of some hundred layers. */
const tolerance = 2e-5;

const folder = (path: string) => `${goldens}/sdxl-mini/${path}`;
const upload = (gpu: Gpu, { data, shape }: GoldenTensor) => Tensor.from(gpu, Float32Array.from(data), shape);
const rowsOf = ({ data, shape: [rows, length] }: GoldenTensor) =>
  Array.from({ length: rows }, (_, row) => [...data.subarray(row * length, (row + 1) * length)]);

gpuTest("both text encoders of sdxl-mini compute the golden penultimate states and projections", async (gpu) => {
  const { tensors } = await loadGoldens("sdxl-mini");
  using first = await CLIPTextModel.fromPretrained(folder("text_encoder"), { gpu });
  const { lastHiddenState, poolerOutput } = first.forward(rowsOf(tensors.get("text.input_ids")!), {
    clipSkip: 1,
    finalNorm: false,
  });
  using states = lastHiddenState;
  using _pooled = poolerOutput;
  assertClose(await states.data(), tensors.get("text.penultimate")!.data, tolerance, "text.penultimate");

  using second = await CLIPTextModelWithProjection.fromPretrained(folder("text_encoder_2"), { gpu });
  const projected = second.forward(rowsOf(tensors.get("text2.input_ids")!), { clipSkip: 1, finalNorm: false });
  using states2 = projected.lastHiddenState;
  using textEmbeds = projected.textEmbeds;
  assertEquals(textEmbeds.shape, [3, second.config.projectionDim]);
  assertClose(await states2.data(), tensors.get("text2.penultimate")!.data, tolerance, "text2.penultimate");
  assertClose(await textEmbeds.data(), tensors.get("text2.text_embeds")!.data, tolerance, "text2.text_embeds");
});

gpuTest("the UNet of sdxl-mini is as close to float64 as diffusers, by conditions, contexts and times", async (gpu) => {
  const { tensors } = await loadGoldens("sdxl-mini");
  const { tensors: float64 } = await loadGoldens("reference/sdxl_unet_float64");
  using unet = await UNet2DConditionModel.fromPretrained(folder("unet"), { gpu });
  for (const letter of ["a", "b"]) {
    const golden = (name: string) => tensors.get(`unet.${letter}.${name}`)!;
    using sample = upload(gpu, golden("sample"));
    using states = upload(gpu, golden("context"));
    using textEmbeds = upload(gpu, golden("text_embeds"));
    using timeIds = upload(gpu, golden("time_ids"));
    const timestep = golden("timestep").data[0];
    const exact = float64.get(`${letter}.out`)!.data;
    // The random weights amplify rounding: the golden itself is 5.3e-5 (a) and 2.2e-5 (b) away.
    const bound = 2 * relativeError(golden("out").data, exact);
    let middle: Tensor | undefined;
    const observe = (path: string, output: Tensor) => {
      if (path === "mid_block") middle = output.reshape(output.shape).keep();
    };
    using noise = unet.forward(sample, timestep, states, { addedCondKwargs: { textEmbeds, timeIds }, observe });
    using observed = middle!;
    assertClose(await observed.data(), float64.get(`${letter}.mid_block`)!.data, tolerance, `${letter}, mid_block`);
    assertClose(await noise.data(), exact, bound, letter);

    using context = unet.prepareContext(states, {
      addedCondKwargs: { textEmbeds, timeIds: rowsOf(golden("time_ids")) },
    });
    using again = unet.forward(sample, timestep, context);
    assertEquals(await again.data(), await noise.data(), "timeIds as rows of numbers");

    using times = unet.embedTimesteps([timestep, 3], context);
    const [batch] = sample.shape, [timeRows, columns] = times.dims(2);
    assertEquals(timeRows, 2 * batch);
    const rows = (await times.data()).slice(0, batch * columns);
    using row = Tensor.from(gpu, rows, [batch, columns]);
    using byRows = unet.forward(sample, row, context);
    assertClose(await byRows.data(), exact, bound, `${letter}, by rows of times`);
  }
});

gpuTest("added conditions that are missing, superfluous or misshapen are refused with what is needed", async (gpu) => {
  using xl = await UNet2DConditionModel.fromPretrained(folder("unet"), { gpu });
  using sd1 = await UNet2DConditionModel.fromPretrained(`${goldens}/sd1-mini/unet`, { gpu });
  using sample = Tensor.from(gpu, new Float32Array(4 * 64), [1, 4, 8, 8]);
  using states = Tensor.from(gpu, new Float32Array(77 * 80), [1, 77, 80]);
  using states1 = Tensor.from(gpu, new Float32Array(77 * sd1.config.crossAttentionDim), [
    1,
    77,
    sd1.config.crossAttentionDim,
  ]);
  using textEmbeds = Tensor.from(gpu, new Float32Array(40), [1, 40]);
  const timeIds = [[32, 32, 0, 0, 32, 32]];
  const forward = (addedCondKwargs?: { textEmbeds: Tensor; timeIds: number[][] }) => () =>
    gpu.scope(() => void xl.forward(sample, 1, states, { addedCondKwargs }));
  forward({ textEmbeds, timeIds })();
  assertThrows(forward(), OptionError, "give { textEmbeds, timeIds }");
  assertThrows(forward({ textEmbeds, timeIds: [[1, 2, 3, 4, 5]] }), ShapeError, "must be 136");
  assertThrows(forward({ textEmbeds, timeIds: [...timeIds, ...timeIds] }), ShapeError, "each needs 1 row");
  assertThrows(
    () => gpu.scope(() => void sd1.forward(sample, 1, states1, { addedCondKwargs: { textEmbeds, timeIds } })),
    OptionError,
    "takes none",
  );
});

gpuTest("the autoencoder of sdxl-mini decodes the golden latents to the golden pictures", async (gpu) => {
  const { tensors } = await loadGoldens("sdxl-mini");
  using vae = await AutoencoderKL.fromPretrained(folder("vae"), { gpu });
  assertEquals([vae.config.scalingFactor, vae.config.forceUpcast], [0.13025, true]);
  const { data, shape } = tensors.get("pipe.euler.latent")!;
  using latents = Tensor.from(gpu, Float32Array.from(data, (value) => value / vae.config.scalingFactor), shape);
  using decoded = vae.decode(latents); // [2, 3, 32, 32]
  const planes = await decoded.data();
  const pixels = Float32Array.from({ length: planes.length }, (_, i) => {
    const channel = i % 3, pixel = Math.floor(i / 3) % 1024, picture = Math.floor(i / 3072);
    return Math.min(Math.max(planes[(picture * 3 + channel) * 1024 + pixel] / 2 + 0.5, 0), 1);
  });
  assertClose(pixels, tensors.get("pipe.euler.image")!.data, tolerance, "image");
});
