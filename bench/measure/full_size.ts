/**
 * Measures a guided step of a full-size UNet, interleaved with PyTorch: time, difference of the
 * results, and memory; then with f16 activations beside f32.
 *
 * @module
 */
import { Gpu } from "../../engine/gpu.ts";
import { OneWorkgroupRuns } from "../../engine/record/one_workgroup.ts";
import { Tensor } from "../../engine/tensor.ts";
import { policyOf } from "../../kernels/policy.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { processWork, PythonProcess, torchName, torchPlaces } from "../peers/torch.ts";
import { writeFolder } from "./random_checkpoint.ts";
import { relativeDifference } from "./relative_difference.ts";
import type { FullSizeRecord } from "../report/report.ts";
import { deviceWork, timeInTurns, type TimingOptions, waitingMs } from "./timing.ts";

/** Options of {@linkcode measureFullSize}. */
export interface FullSizeOptions extends TimingOptions {
  /**
   * A folder in diffusers' layout. Default: random weights with the shapes of Stable Diffusion 1.4,
   * in a temporary folder.
   */
  readonly checkpoint?: string;
  /** Sides of the pictures; multiples of 8. */
  readonly pixels: readonly number[];
  /** A Python with PyTorch, diffusers and transformers. Default: none. */
  readonly python?: string;
  readonly onRecord: (record: FullSizeRecord) => void;
  readonly onRemark: (remark: string) => void;
}

const timestep = 981;
const prompts = ["", "a red rose in a blue vase"];

/** A PyTorch process that has loaded the same model. */
interface TorchModel {
  readonly name: string;
  readonly process: PythonProcess;
}

/**
 * Opens a device and measures. Steps that take seconds are timed twice, shorter ones more often.
 */
export async function measureFullSize(options: FullSizeOptions): Promise<void> {
  const { checkpoint, onRemark } = options;
  if (checkpoint !== undefined) return await measureModel(checkpoint, options);
  const folder = await Deno.makeTempDir({ prefix: "bluerose-full-size-" });
  try {
    const model = `${folder}/random`;
    onRemark(`writing 2 GB of random weights to ${model}`);
    await writeFolder(model);
    await measureModel(model, options);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function measureModel(model: string, options: FullSizeOptions): Promise<void> {
  const { python, pixels, onRecord, onRemark } = options;
  using gpu = await Gpu.request();
  const started = performance.now();
  using pipe = await StableDiffusionPipeline.fromPretrained(model, { gpu, safetyChecker: null });
  const loadMs = performance.now() - started;
  onRemark(`loaded in ${(loadMs / 1000).toFixed(1)} s`);
  const ids = prompts.map((text) => pipe.tokenizer.encode(text, { padding: "max_length" }));
  using embeddings = gpu.scope(() => pipe.textEncoder.forward(ids).lastHiddenState);
  const torch = python === undefined ? [] : await openTorchModels(model, {
    python,
    isSoftware: policyOf(gpu).isSoftware,
    ids,
    embeddings: await embeddings.data(),
    onRemark,
  });
  try {
    for (const side of pixels) {
      const { record, noise } = await measureStep(pipe, embeddings, torch, side, options);
      onRecord({ loadMs, ...record });
      pipe.unet.activations = "f16";
      const { record: half, noise: rounded } = await measureStep(pipe, embeddings, [], side, options);
      pipe.unet.activations = "f32";
      const peers = { "activations in f32": { ms: record.ms, difference: relativeDifference(rounded, noise) } };
      onRecord({ loadMs, ...half, activations: "f16", peers });
    }
  } finally {
    for (const { process } of torch) process[Symbol.dispose]();
  }
}

async function openTorchModels(
  folder: string,
  { python, isSoftware, ids, embeddings, onRemark }: {
    python: string;
    isSoftware: boolean;
    ids: readonly (readonly number[])[];
    embeddings: Float32Array<ArrayBuffer>;
    onRemark: (remark: string) => void;
  },
): Promise<TorchModel[]> {
  const models: TorchModel[] = [];
  try {
    const { version, places } = await torchPlaces(python, { isSoftware });
    for (const place of places) {
      const process = new PythonProcess(python, "torch_step.py");
      const name = torchName(version, place);
      models.push({ name, process });
      const { difference } = await process.ask({ folder, ids, ...place }, [embeddings]) as { difference: number };
      onRemark(`${name}: the prompts' embeddings differ by ${difference.toExponential(1)} of their norm`);
    }
  } catch (error) {
    for (const { process } of models.splice(0)) process[Symbol.dispose]();
    onRemark(`PyTorch: ${error instanceof Error ? error.message : error}`);
  }
  return models;
}

async function measureStep(
  { gpu, unet }: StableDiffusionPipeline,
  embeddings: Tensor,
  torch: readonly TorchModel[],
  pixels: number,
  options: TimingOptions,
): Promise<{ record: Omit<FullSizeRecord, "loadMs">; noise: Float32Array<ArrayBuffer> }> {
  const side = pixels / 8;
  const shape = [1, unet.config.inChannels, side, side];
  const noise = new Float32Array(new TorchGenerator(7).randn(shape));
  gpu.trim();
  const weightsBytes = gpu.memory.live;
  using context = unet.prepareContext(embeddings);
  using latents = Tensor.from(gpu, noise, shape);
  using both = concat([latents, latents], 0);
  const step = () => unet.forward(both, timestep, context);
  await compileKernels(gpu, () => gpu.scope(() => void step()));
  gpu.resetPeak();

  let last: Tensor | undefined;
  const ours = deviceWork(gpu, () => {
    last?.[Symbol.dispose]();
    last = step().keep();
  }, { waitMs: await waitingMs(() => gpu.finished()) });
  for (const { process } of torch) await process.ask({ timestep, side }, [noise]);
  const timings = await timeInTurns([ours, ...torch.map(({ process }) => processWork(process))], {
    ...options,
    isWarm: true,
  });
  const { peak, peakReserved } = gpu.memory;
  const result = await last!.data();
  last![Symbol.dispose]();
  const peers: Record<string, { ms: number; difference: number }> = {};
  for (const [index, { name, process }] of torch.entries()) {
    const { difference } = await process.ask({}, [result]) as { difference: number };
    peers[name] = { ms: timings[index + 1].minMs, difference };
  }
  const record = {
    pixels,
    ms: timings[0].minMs,
    batches: timings[0].batches,
    weightsBytes,
    peakBytes: peak,
    peakReservedBytes: peakReserved,
    ...(torch.length > 0 ? { peers } : {}),
  };
  return { record, noise: result };
}

/** Makes the driver compile all kernels that `body` runs, without computing them. */
async function compileKernels(gpu: Gpu, body: () => void): Promise<void> {
  {
    using oneWorkgroup = new OneWorkgroupRuns(gpu.context);
    for (const run of await gpu.context.rehearse(body)) gpu.context.recorder.dispatch(oneWorkgroup.record(run));
    await gpu.finished();
  }
  gpu.trim();
}
