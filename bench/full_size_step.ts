/**
 * One guided step of a model, timed, with its numbers written down for tests/reference/full_size_step.py to compare with PyTorch's.
 *
 *     deno run -A bench/random_checkpoint.ts /tmp/sd14-random
 *     deno run -A bench/full_size_step.ts /tmp/sd14-random /tmp/step.safetensors 256
 *     python tests/reference/full_size_step.py /tmp/sd14-random /tmp/step.safetensors
 *
 * @module
 */
import { Gpu } from "../engine/gpu.ts";
import { Tensor } from "../engine/tensor.ts";
import { concat } from "../kernels/concat.ts";
import { guide } from "../kernels/linear_combination.ts";
import type { TensorEntry } from "../pipeline/loading/safetensors.ts";
import { saveSafetensors } from "../pipeline/loading/saving.ts";
import { StableDiffusionPipeline } from "../pipeline/stable_diffusion_pipeline.ts";
import { TorchGenerator } from "../schedulers/mod.ts";

const [model, target, pixels = "256"] = Deno.args;
if (target === undefined || !(Number(pixels) > 0 && Number(pixels) % 8 === 0)) {
  console.error("Usage: full_size_step.ts MODEL_DIRECTORY STEP.safetensors [PIXELS, a multiple of 8; default 256]");
  Deno.exit(1);
}
const timestep = 981;
const guidance = 7.5;
const side = Number(pixels) / 8;
const shape = [1, 4, side, side];
const prompts = ["", "a red rose in a blue vase"];

using gpu = await Gpu.request();
let last = performance.now();
const seconds: Record<string, number> = {};
const lap = async (stage: string) => {
  await gpu.finished();
  seconds[stage] = Number(((performance.now() - last) / 1000).toFixed(2));
  last = performance.now();
};

using pipe = await StableDiffusionPipeline.fromPretrained(model, { gpu });
await lap("load");
const ids = prompts.map((text) => pipe.tokenizer.encode(text, { padding: "max_length" }));
const { lastHiddenState, poolerOutput } = pipe.textEncoder.forward(ids);
using embeddings = lastHiddenState;
poolerOutput[Symbol.dispose]();
await lap("text encoder, first (compiles)");
const weightsBytes = gpu.memory.live;
gpu.resetPeak();
using context = pipe.unet.prepareContext(embeddings);
using latents = Tensor.from(gpu, new Float32Array(new TorchGenerator(7).randn(shape)), shape);
using pair = concat([latents, latents], 0);
pipe.unet.forward(pair, timestep, context)[Symbol.dispose]();
await lap("UNet, first (compiles)");
using noise = pipe.unet.forward(pair, timestep, context);
using guided = guide(noise, guidance);
await lap("guided UNet step");

const entry = async (name: string, tensor: Tensor): Promise<TensorEntry> => {
  const data = await tensor.data();
  return { name, dtype: "F32", shape: tensor.shape, chunks: () => [new Uint8Array(data.buffer)] };
};
const flatIds = Int32Array.from(ids.flat());
await saveSafetensors(target, [
  { name: "input_ids", dtype: "I32", shape: [2, ids[0].length], chunks: () => [new Uint8Array(flatIds.buffer)] },
  await entry("latents", latents),
  await entry("embeddings", embeddings),
  await entry("noise", noise),
  await entry("guided", guided),
], { metadata: { timestep: `${timestep}`, guidance: `${guidance}` } });
const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20);
const { peak, peakReserved } = gpu.memory;
const memory = {
  weightsMiB: mebibytes(weightsBytes),
  peakMiB: mebibytes(peak),
  peakReservedMiB: mebibytes(peakReserved),
};
if (gpu.info.features.has("timestamp-query")) {
  const rows = await gpu.profile(() => pipe.unet.forward(pair, timestep, context)[Symbol.dispose]());
  for (const { kernel, runs, ms, flops } of rows.slice(0, 8)) {
    console.log(`${kernel.padEnd(24)} ${runs} runs  ${ms.toFixed(0)} ms  ${(flops / ms / 1e6).toFixed(1)} GFLOPS`);
  }
}
console.log(JSON.stringify({ device: gpu.info.name, model, pixels: Number(pixels), seconds, ...memory }));
