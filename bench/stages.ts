/**
 * The whole way from a bare process to a picture, stage by stage: first cold, as a user meets it, then warm.
 *
 * @module
 */
import { Gpu } from "../engine/gpu.ts";
import { Tensor } from "../engine/tensor.ts";
import { concat } from "../kernels/concat.ts";
import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { encodeTexts } from "../pipeline/prompt_encoding.ts";
import { StableDiffusionPipeline } from "../pipeline/stable_diffusion_pipeline.ts";
import { TorchGenerator } from "../schedulers/mod.ts";
import { numbers } from "./task.ts";
import type { StageRecord } from "./report.ts";
import { deviceWork, hostWork, time, type TimingOptions, waitingMs } from "./timing.ts";

/** What is measured, and who is told. */
export interface StageOptions extends TimingOptions {
  /** Folder of the model. */
  readonly model: string;
  /** Denoising steps of a picture. Default: 20. */
  readonly steps?: number;
  /** Told of each stage as soon as it is known. */
  readonly onStage: (stage: StageRecord) => void;
}

const prompt = "A pack of roses";
const pair = { source: "A pack of roses", destination: "A pack of blue roses" };

/**
 * Opens a device of its own, so that nothing is compiled yet, and measures. Drivers keep compiled kernels on disk: only the first run on a machine
 * is cold through and through.
 */
export async function measureStages(options: StageOptions): Promise<void> {
  const { model, steps = 20, onStage } = options;
  onStage({ stage: "cold: start Deno, load the program", ms: performance.now() });
  const timed = async <T>(stage: string, work: () => Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await work();
    onStage({ stage, ms: performance.now() - started });
    return result;
  };

  using gpu = await timed("cold: open the device", () => Gpu.request());
  using pipe = await timed("cold: load the model", () => StableDiffusionPipeline.fromPretrained(model, { gpu }));
  const draw = async () => {
    await pipe.generate(prompt, { numInferenceSteps: steps, generator: new TorchGenerator(7), outputType: "array" });
  };
  const compiling = watchCompilation(gpu.device);
  const started = performance.now();
  await draw();
  const firstMs = performance.now() - started;
  compiling.stop();
  onStage({ stage: `cold: first picture, ${steps} steps, guided`, ms: firstMs });
  onStage({ stage: `cold: … of it creating ${compiling.count} pipelines`, ms: compiling.ms });

  const warm = await time(hostWork(draw), { budgetMs: 1 }); // a few pictures at most
  onStage({ stage: "cold: … of it more than a warm picture", ms: Math.max(0, firstMs - warm.minMs) });
  onStage({ stage: `picture, ${steps} steps, guided`, ms: warm.minMs });
  await measureParts(pipe, options);
}

async function measureParts(pipe: StableDiffusionPipeline, options: StageOptions): Promise<void> {
  const { onStage } = options;
  const { gpu, unet, vae, tokenizer, textEncoder } = pipe;
  const waitMs = await waitingMs(() => gpu.finished());
  const stage = async (name: string, record: () => void) => {
    const { minMs } = await time(deviceWork(gpu, record, { waitMs }), options);
    onStage({ stage: name, ms: minMs });
  };

  const ids = ["", prompt].map((text) => tokenizer.encode(text, { padding: "max_length", truncation: true }));
  await stage("encode a prompt and the empty one", () => void textEncoder.forward(ids));

  const side = unet.config.sampleSize ?? 64, channels = unet.config.inChannels;
  using one = Tensor.from(gpu, numbers(channels * side * side), [1, channels, side, side]);
  using both = concat([one, one], 0);
  using states = gpu.scope(() => textEncoder.forward(ids).lastHiddenState);
  using context = gpu.scope(() => {
    const made = unet.prepareContext(states);
    made.keep();
    return { made };
  }).made;
  using times = unet.embedTimesteps([500, 500]);
  await stage("keys and values of the prompts, once a picture", () => unet.prepareContext(states));
  await stage("UNet step, guided (a batch of two)", () => void unet.forward(both, times, context));
  await stage("decode the latents", () => void vae.decode(one));

  const model = {
    gpu,
    tokenizer,
    crossAttentions: unet.crossAttentions,
    encodeTexts: (texts: readonly string[]) => encodeTexts(tokenizer, textEncoder, texts),
  };
  const solve = async () => {
    using _ = await ModelEdit.solve([pair], { lamb: 0.1 }, model);
  };
  onStage({ stage: "edit: encode, align and solve", ms: (await time(hostWork(solve), options)).minMs });
}

/** Adds up the time that the driver takes in `createComputePipeline`, which is synchronous in Deno. */
function watchCompilation(device: GPUDevice): { readonly ms: number; readonly count: number; stop(): void } {
  const original = device.createComputePipeline;
  const watched = {
    ms: 0,
    count: 0,
    stop: () => {
      device.createComputePipeline = original;
    },
  };
  device.createComputePipeline = (descriptor) => {
    const started = performance.now();
    try {
      return original.call(device, descriptor);
    } finally {
      watched.ms += performance.now() - started;
      watched.count++;
    }
  };
  return watched;
}
