/**
 * Measures a guided step of a full-size UNet, interleaved with PyTorch and stable-diffusion.cpp:
 * time, difference of the results, and memory; then with f16 activations beside f32.
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
import { firstLine } from "../peers/first_line.ts";
import { openSdCpp } from "../peers/sdcpp.ts";
import type { StepPeer } from "../peers/step_peer.ts";
import { openTorchSteps } from "../peers/torch_step.ts";
import { writeFolder, writeSingleFile } from "./random_checkpoint.ts";
import { relativeDifference } from "./relative_difference.ts";
import type { FullSizeRecord } from "../report/report.ts";
import { deviceWork, timeInTurns, type TimingOptions, waitingMs, type Work } from "./timing.ts";

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
    const file = `${folder}/random.safetensors`;
    await measureModel(model, { ...options, file });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function measureModel(model: string, options: FullSizeOptions & { readonly file?: string }): Promise<void> {
  const { pixels, onRecord, onRemark } = options;
  using gpu = await Gpu.request();
  const started = performance.now();
  using pipe = await StableDiffusionPipeline.fromPretrained(model, { gpu, safetyChecker: null });
  const loadMs = performance.now() - started;
  onRemark(`loaded in ${(loadMs / 1000).toFixed(1)} s`);
  const ids = prompts.map((text) => pipe.tokenizer.encode(text, { padding: "max_length" }));
  using embeddings = gpu.scope(() => pipe.textEncoder.forward(ids).lastHiddenState);
  using peers = new DisposableStack();
  const opened = await openStepPeers(model, {
    ...options,
    isSoftware: policyOf(gpu).isSoftware,
    ids,
    embeddings: await embeddings.data(),
  });
  for (const peer of opened) peers.use(peer);
  for (const side of pixels) {
    const { record, noise } = await measureStep(pipe, embeddings, opened, side, options);
    onRecord({ loadMs, ...record });
    pipe.unet.activations = "f16";
    const { record: half, noise: rounded } = await measureStep(pipe, embeddings, [], side, options);
    pipe.unet.activations = "f32";
    const compared = { "activations in f32": { ms: record.ms, difference: relativeDifference(rounded, noise) } };
    onRecord({ loadMs, ...half, activations: "f16", peers: compared });
  }
}

/** Opens the engines that this machine has; a remark tells why another is missing. */
async function openStepPeers(
  folder: string,
  options: FullSizeOptions & {
    readonly file?: string;
    readonly isSoftware: boolean;
    readonly ids: readonly (readonly number[])[];
    readonly embeddings: Float32Array<ArrayBuffer>;
  },
): Promise<StepPeer[]> {
  const { python, file, isSoftware, onRemark } = options;
  if (python === undefined) return [];
  const open = async (name: string, opening: () => Promise<StepPeer[]>) => {
    try {
      return await opening();
    } catch (error) {
      onRemark(`${name}: ${firstLine(error)}`);
      return [];
    }
  };
  const openSdCppHere = async () => {
    if (file === undefined) throw new Error("measured with random weights only, without --checkpoint");
    if (!isSoftware) throw new Error("measured on the CPU only, beside a software device");
    return [await openSdCpp(file, { python, writeFile: () => writeSingleFile(file) })];
  };
  return [
    ...await open("PyTorch", () => openTorchSteps(folder, { ...options, python })),
    ...await open("stable-diffusion.cpp", openSdCppHere),
  ];
}

async function measureStep(
  { gpu, unet }: StableDiffusionPipeline,
  embeddings: Tensor,
  others: readonly StepPeer[],
  pixels: number,
  options: FullSizeOptions,
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
  const works: { peer: StepPeer; work: Work }[] = [];
  for (const peer of others) {
    try {
      works.push({ peer, work: await peer.prepare({ pixels, timestep, latents: noise }) });
    } catch (error) {
      options.onRemark(`${peer.name}: ${firstLine(error)}`);
    }
  }
  const timings = await timeInTurns([ours, ...works.map(({ work }) => work)], {
    ...options,
    isWarm: true,
  });
  const { peak, peakReserved } = gpu.memory;
  const result = await last!.data();
  last![Symbol.dispose]();
  const peers: Record<string, { ms: number; difference?: number }> = {};
  for (const [index, { peer }] of works.entries()) {
    const difference = await peer.difference?.(result);
    peers[peer.name] = { ms: timings[index + 1].minMs, ...(difference === undefined ? {} : { difference }) };
  }
  const record = {
    pixels,
    ms: timings[0].minMs,
    batches: timings[0].batches,
    weightsBytes,
    peakBytes: peak,
    peakReservedBytes: peakReserved,
    ...(works.length > 0 ? { peers } : {}),
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
