/**
 * A guided step of a full-size UNet, beside other engines: time, difference of the results, memory.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { OneWorkgroupRuns } from "../../engine/record/one_workgroup.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import type { PromptContext } from "../../pipeline/models/prompt_context.ts";
import type { UNet2DConditionModel } from "../../pipeline/models/unet.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { firstLine } from "../peers/first_line.ts";
import type { StepPeer } from "../peers/step_peer.ts";
import type { FullSizeRecord } from "../report/report.ts";
import type { FullSizeModel } from "./random_checkpoint.ts";
import { deviceWork, timeInTurns, type TimingOptions, waitingMs, type Work } from "./timing.ts";

/** How full-size models are measured. */
export interface FullSizeOptions extends TimingOptions {
  /** The model whose shapes random weights have. */
  readonly model: FullSizeModel;
  /** A folder in diffusers' layout. Default: random weights, in a temporary folder. */
  readonly checkpoint?: string;
  /** Sides of the pictures; multiples of 8. */
  readonly pixels: readonly number[];
  /** A Python with PyTorch, diffusers and transformers. Default: none. */
  readonly python?: string;
  readonly onRecord: (record: FullSizeRecord) => void;
  readonly onRemark: (remark: string) => void;
}

/** The timestep of the measured step. */
export const timestep = 981;

/** The prompts of the measured step, the empty one first. */
export const prompts: readonly string[] = ["", "a red rose in a blue vase"];

/** Opens an engine. Where it fails, a remark tells why, and there is none. */
export async function openPeer(
  name: string,
  { onRemark }: Pick<FullSizeOptions, "onRemark">,
  open: () => Promise<StepPeer[]>,
): Promise<StepPeer[]> {
  try {
    return await open();
  } catch (error) {
    onRemark(`${name}: ${firstLine(error)}`);
    return [];
  }
}

/** The latents that a step starts from, 1 × 4 × (pixels / 8)². */
export function guidedLatents(pixels: number): Float32Array<ArrayBuffer> {
  return new Float32Array(new TorchGenerator(7).randn([1, 4, pixels / 8, pixels / 8]));
}

/** Measures one guided step beside other engines. */
export async function measureStep(
  { gpu, unet }: { readonly gpu: Gpu; readonly unet: UNet2DConditionModel },
  others: readonly StepPeer[],
  pixels: number,
  options: FullSizeOptions & { readonly context: () => PromptContext },
): Promise<{ record: Omit<FullSizeRecord, "loadMs">; noise: Float32Array<ArrayBuffer> }> {
  const side = pixels / 8;
  const shape = [1, unet.config.inChannels, side, side];
  const noise = guidedLatents(pixels);
  gpu.trim();
  const weightsBytes = gpu.memory.live;
  using context = options.context();
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
