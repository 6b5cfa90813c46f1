/**
 * The performance targets of this project. Each is computed from the records of one run.
 *
 * @module
 */
import { kernelCases } from "../cases/cases.ts";
import { demoStage, pictureStage } from "./stage_names.ts";
import {
  type BenchReport,
  compileMs,
  type DeviceRecord,
  type FullSizeRecord,
  type KernelRecord,
  type TargetRecord,
} from "./report.ts";
import { digits, percent } from "./text.ts";
import { type PeerTask, squareTask } from "../cases/task.ts";
import { guidedTasks, mostCommonCount } from "../cases/unet_shapes.ts";

/**
 * The measurement as text, and whether it meets the target. Undefined where missing measurements
 * could decide.
 */
interface Measured {
  readonly measured: string;
  readonly isMet: boolean | undefined;
}

/** One target. */
interface Target {
  readonly name: string;
  readonly demanded: string;
  /** The devices that the target applies to. Default: all. */
  readonly on?: "software" | "gpu";
  /** Returns the measurement, or the reason why it is missing. */
  readonly judge: (report: BenchReport) => Measured | string;
}

/** Name prefixes of the WebGPU engines. */
const webgpuPeers = ["tfjs", "jax-js"];
const attentionTask: PeerTask = { op: "attention", batch: 1, heads: 1, t: 1024, s: 1024, dim: 64 };

const targets: readonly Target[] = [
  ...[512, 1024, 1920, 2048].map((side): Target => ({
    name: `matmul ${side}³`,
    demanded: "6 times as fast as tfjs and jax-js",
    on: "software",
    judge: ({ kernels }) => judgeRatios(recordsOf(kernels, squareTask(side)), webgpuPeers, { least: 6 }),
  })),
  {
    name: "conv 3×3 at the sizes of the UNet and the VAE, worst case",
    demanded: "8 times as fast as tfjs",
    on: "software",
    judge: ({ kernels }) => {
      const wanted = kernelCases.filter((each) => isModelConvolution(each) && !each.peersOnRequest);
      return judgeRatios(kernels.filter(isModelConvolution), ["tfjs"], {
        least: 8,
        of: wanted.map(({ task }) => task!),
      });
    },
  },
  {
    name: "attention 1024 × 1024 × 64",
    demanded: "5 times as fast as tfjs and jax-js",
    on: "software",
    judge: ({ kernels }) => judgeRatios(recordsOf(kernels, attentionTask), webgpuPeers, { least: 5 }),
  },
  {
    name: `the ${mostCommonCount} most common shapes of the UNet, worst case`,
    demanded: "not slower than tfjs or jax-js",
    on: "software",
    judge: ({ kernels }) => {
      const wanted = guidedTasks.slice(0, mostCommonCount).map(({ task }) => task);
      return judgeRatios(wanted.flatMap((task) => recordsOf(kernels, task)), webgpuPeers, { least: 1, of: wanted });
    },
  },
  {
    name: "picture of the embedded model, 20 steps, guided, warm",
    demanded: "at most 2 s",
    on: "software",
    judge: ({ stages }) => judgeSeconds(stages.find(({ stage }) => stage === pictureStage(20))?.ms, { most: 2 }),
  },
  {
    name: "sh run.sh demo with empty shader caches",
    demanded: "at most 30 s",
    on: "software",
    judge: ({ stages }) => judgeSeconds(stages.find(({ stage }) => stage === demoStage)?.ms, { most: 30 }),
  },
  {
    name: "matmul 1024³ compared with PyTorch on the CPU",
    demanded: "at least 1/4 of its rate",
    on: "software",
    judge: ({ kernels }) => judgeRatios(recordsOf(kernels, squareTask(1024)), ["PyTorch"], { least: 0.25 }),
  },
  {
    name: "guided step of a full-size UNet at 512² compared with PyTorch in f32 on the CPU",
    demanded: "at most 5 times its time",
    on: "software",
    judge: ({ fullSize }) => {
      const step = largeStep(fullSize);
      const peer = Object.entries(step?.peers ?? {}).find(([name]) => name.endsWith("CPU"))?.[1];
      if (!step || !peer) return step ? "PyTorch was not available" : notRun;
      const ratio = step.ms / peer.ms;
      const measured = `${digits(ratio)} × (${digits(step.ms / 1000)} s and ${digits(peer.ms / 1000)} s)`;
      return { measured, isMet: ratio <= 5 };
    },
  },
  {
    name: "compiling all pipelines of a full-size model",
    demanded: "at most 5 s",
    judge: ({ compilation }) =>
      judgeSeconds(compilation && (compilation.aheadMs ?? compileMs(compilation)), { most: 5 }),
  },
  {
    name: "memory of a guided step at 512² besides the weights, including buffers kept for reuse",
    demanded: "at most 1.5 GB",
    judge: ({ fullSize }) => {
      const step = largeStep(fullSize);
      if (!step) return notRun;
      const bytes = step.peakReservedBytes - step.weightsBytes;
      return { measured: `${digits(bytes / 1e9)} GB`, isMet: bytes <= 1.5e9 };
    },
  },
  {
    name: "matmul 4096³",
    demanded: "50 % of the f32 peak",
    on: "gpu",
    judge: ({ kernels, device }) => judgeShares(recordsOf(kernels, squareTask(4096)), device, { least: 0.5 }),
  },
  {
    name: "conv 3×3 of at least 10 GFLOP, worst case",
    demanded: "40 % of the f32 peak",
    on: "gpu",
    judge: ({ kernels, device }) =>
      judgeShares(kernels.filter((kernel) => isModelConvolution(kernel) && isLarge(kernel)), device, { least: 0.4 }),
  },
  {
    name: "attention of at least 5 GFLOP, worst case",
    demanded: "40 % of the f32 peak",
    on: "gpu",
    judge: ({ kernels, device }) => {
      const large = kernels.filter((kernel) => kernel.task?.op === "attention" && flopsOf(kernel) >= 5e9);
      return judgeShares(large, device, { least: 0.4 });
    },
  },
];

const notRun = "not in this run";

/** The verdict on every target that applies to the device of a run. */
export function judgeTargets(report: BenchReport): TargetRecord[] {
  const kind = report.device.deviceClass === "software" ? "software" : "gpu";
  return targets.filter(({ on = kind }) => on === kind).map(({ name, demanded, judge }) => {
    const result = judge(report);
    if (typeof result === "string") return { target: name, demanded, measured: result, verdict: "not measured" };
    const { measured, isMet } = result;
    return {
      target: name,
      demanded,
      measured,
      verdict: isMet === undefined ? "not measured" : isMet ? "met" : "missed",
    };
  });
}

/**
 * The verdicts as a table. Targets that the run did not measure are only counted, below the table.
 */
export function targetsText(records: readonly TargetRecord[]): string {
  const isLeftOut = ({ verdict, measured }: TargetRecord) => verdict === "not measured" && measured === notRun;
  const shown = records.filter((record) => !isLeftOut(record));
  const width = (key: "target" | "demanded" | "verdict") => Math.max(...shown.map((record) => record[key].length)) + 2;
  const left = records.length - shown.length;
  return [
    ...shown.map(({ target, demanded, measured, verdict }) =>
      verdict.padEnd(width("verdict")) + target.padEnd(width("target")) + demanded.padEnd(width("demanded")) + measured
    ),
    ...(left > 0 ? [`${left} of ${records.length} are not in this run`] : []),
  ].join("\n");
}

/** The records of one task. */
function recordsOf(kernels: readonly KernelRecord[], task: PeerTask): KernelRecord[] {
  const key = JSON.stringify(task);
  return kernels.filter((kernel) => kernel.task && JSON.stringify(kernel.task) === key);
}

function isModelConvolution({ task, shape }: Pick<KernelRecord, "task" | "shape">): boolean {
  return task?.op === "conv2d" && task.kernel === 3 && /^(unet|vae)/.test(shape);
}

function flopsOf({ gflops, ms }: KernelRecord): number {
  return gflops * ms * 1e6;
}

function isLarge(kernel: KernelRecord): boolean {
  return flopsOf(kernel) >= 10e9;
}

function largeStep(records: readonly FullSizeRecord[] = []): FullSizeRecord | undefined {
  return records.find(({ model, pixels, activations }) =>
    model === undefined && pixels === 512 && activations === undefined
  );
}

/**
 * The minimum over all records of the best other engine's time divided by ours.
 *
 * @param names name prefixes of the other engines
 * @param options.of the task that the records must contain for the target to be met. Default: any.
 */
function judgeRatios(
  records: readonly KernelRecord[],
  names: readonly string[],
  { least, of = [] }: { least: number; of?: readonly PeerTask[] },
): Measured | string {
  if (records.length === 0) return notRun;
  const isNamed = (peer: string) => names.some((beginning) => peer.startsWith(beginning));
  const rows = records.flatMap((record) => {
    const { kernel, shape, ms, peers = {} } = record;
    const times = Object.entries(peers).filter(([name]) => isNamed(name));
    if (times.length === 0) return [];
    const [peer, { ms: peerMs }] = times.reduce((best, each) => each[1].ms < best[1].ms ? each : best);
    return [{ record, name: `${kernel} ${shape}`, peer, ratio: peerMs / ms }];
  });
  if (rows.length === 0) return "no such peer in this run";
  const worst = rows.reduce((low, row) => row.ratio < low.ratio ? row : low);
  const compared = rows.map(({ record }) => record);
  const uncompared = of.filter((task) => recordsOf(compared, task).length === 0);
  const beyond =
    uncompared.filter((task) => recordsOf(records, task).some(({ unable = {} }) => Object.keys(unable).some(isNamed)))
      .length; // engines without a result are not faster
  const missing = uncompared.length - beyond;
  const place = of.length > 0 || rows.length > 1 ? ` at ${worst.name}` : "";
  const number = (of.length > 0 ? `, of ${rows.length}` : "") +
    (beyond > 0 ? `; ${beyond} more are supported by none of them` : "") +
    (missing > 0 ? `; ${missing} of ${of.length} are missing` : "");
  const isMet = worst.ratio < least ? false : missing > 0 ? undefined : true;
  return { measured: `${digits(worst.ratio)} × ${worst.peer}${place}${number}`, isMet };
}

function judgeShares(
  records: readonly KernelRecord[],
  { ceiling }: DeviceRecord,
  { least }: { least: number },
): Measured | string {
  if (records.length === 0) return notRun;
  const worst = records.reduce((low, record) => record.gflops < low.gflops ? record : low);
  const share = worst.gflops / ceiling.gflops;
  return { measured: `${percent(share)}: ${digits(worst.gflops)} GFLOPS at ${worst.shape}`, isMet: share >= least };
}

function judgeSeconds(ms: number | undefined, { most }: { most: number }): Measured | string {
  return ms === undefined ? notRun : { measured: `${digits(ms / 1000)} s`, isMet: ms <= 1000 * most };
}
