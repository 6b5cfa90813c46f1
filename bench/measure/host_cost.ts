/**
 * Measures the host time of one guided UNet step: JavaScript milliseconds to record and to submit
 * it, and the number of WebGPU calls.
 *
 *     deno run -P=bench bench/measure/host_cost.ts models/pocket
 *     deno run -P=bench bench/measure/host_cost.ts DIRECTORY 256
 *
 * @module
 */
import { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";

const [model, pixels, repeats = "20"] = Deno.args;
if (model === undefined) {
  console.error("Usage: host_cost.ts MODEL_DIRECTORY [PIXELS [REPEATS]]");
  Deno.exit(1);
}

using gpu = await Gpu.request();
using pipe = await StableDiffusionPipeline.fromPretrained(model, { gpu });
const { unet } = pipe;
const side = pixels === undefined ? unet.config.sampleSize ?? 64 : Number(pixels) / 8;
const shape = [1, 4, side, side];
const ids = ["", "a red rose in a blue vase"].map((text) => pipe.tokenizer.encode(text, { padding: "max_length" }));
using context = gpu.scope(() => unet.prepareContext(pipe.textEncoder.forward(ids).lastHiddenState).keep());
using latents = Tensor.from(gpu, new Float32Array(new TorchGenerator(7).randn(shape)), shape);
using pair = concat([latents, latents], 0);
using times = unet.embedTimesteps([981, 981]);
const step = () => unet.forward(pair, times, context)[Symbol.dispose]();

/** Counts the calls of a method and the milliseconds inside it. */
function watch<K extends string>(target: Record<K, (...args: never[]) => unknown>, method: K) {
  const original = target[method];
  const watched = { count: 0, ms: 0 };
  target[method] = function (this: unknown, ...args: never[]) {
    const started = performance.now();
    try {
      return original.apply(this, args);
    } finally {
      watched.ms += performance.now() - started;
      watched.count++;
    }
  };
  return watched;
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const submitted = watch(gpu.context.recorder.submitSink as unknown as Record<"submit", () => void>, "submit");

/**
 * Milliseconds to record `body` and to submit it. The device is idle apart from submissions of a
 * full recorder.
 */
async function measure(body: () => void): Promise<{ recordMs: number; submitMs: number }> {
  const record: number[] = [], submit: number[] = [];
  for (let i = 0; i < Number(repeats); i++) {
    await gpu.finished();
    submitted.ms = 0;
    const started = performance.now();
    body();
    gpu.flush();
    const ms = performance.now() - started;
    submit.push(submitted.ms);
    record.push(ms - submitted.ms);
  }
  return { recordMs: median(record), submitMs: median(submit) };
}

for (let i = 0; i < 2; i++) step();
await gpu.finished();
const { runs } = gpu.tally(step);
const groups = watch(gpu.context.device as unknown as Record<"createBindGroup", () => unknown>, "createBindGroup");
const buffers = watch(gpu.context.device as unknown as Record<"createBuffer", () => unknown>, "createBuffer");
const copies = watch(gpu.context.recorder as unknown as Record<"copy", () => unknown>, "copy");
step();
const [madeGroups, madeBuffers, madeCopies] = [groups.count, buffers.count, copies.count];
const show = (what: string, { recordMs, submitMs }: { recordMs: number; submitMs: number }) =>
  console.log(
    `${what.padEnd(28)} record ${recordMs.toFixed(2)} ms (${
      (1000 * recordMs / runs).toFixed(1)
    } µs a dispatch), submit ${submitMs.toFixed(2)} ms`,
  );
console.log(`${gpu.info.name}; ${model}, ${side} × ${side} latents, a batch of two`);
console.log(
  `a step: ${runs} dispatches, ${madeCopies} copies, ${madeGroups} bind groups and ${madeBuffers} buffers created (warm)`,
);
show("UNet forward", await measure(step));
await gpu.finished();
const started = performance.now();
using program = gpu.capture(() => unet.forward(pair, times, context));
console.log(
  `${"… captured".padEnd(28)} once ${(performance.now() - started).toFixed(2)} ms, ${
    (program.temporaryBytes / 2 ** 20).toFixed(1)
  } MiB`,
);
show("… run again", await measure(() => program.run()));
await gpu.finished();
