/**
 * Measures kernels one by one, interleaved with other engines if there are any.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { type KernelCase, prepareTask } from "../cases/cases.ts";
import type { Ceiling } from "./ceiling.ts";
import { firstLine } from "../peers/first_line.ts";
import type { Peer } from "../peers/peer.ts";
import { type PeerPace, resultsAgree } from "../peers/peers.ts";
import { relativeError } from "../oracles/numbers.ts";
import { type KernelRecord, kernelRecord } from "../report/report.ts";
import type { PeerTask } from "../cases/task.ts";
import { type DeviceTiming, deviceWork, timeInTurns, type TimingOptions, type Work } from "./timing.ts";

/** Options of {@linkcode measureKernel}. */
export interface KernelBenchOptions extends TimingOptions, DeviceTiming {
  /** Measured by the same clock. */
  readonly ceiling: Ceiling;
  /** Other engines to measure. Default: none. */
  readonly peers?: readonly Peer[];
  /**
   * Rates seen of the peers; tasks that would take too long are skipped. Default: none is skipped.
   */
  readonly pace?: PeerPace;
}

/** The record of a kernel, with remarks. */
export interface KernelResult {
  readonly record: KernelRecord;
  /** Failures of peers, and times that are bound by the host. */
  readonly remarks: readonly string[];
}

/** Times one kernel at one size. */
export async function measureKernel(
  gpu: Gpu,
  kernelCase: KernelCase,
  options: KernelBenchOptions,
): Promise<KernelResult> {
  const { kernel, shape, task, perStep, real = () => "f32" as const } = kernelCase;
  const { pace } = options;
  const remarks: string[] = [];
  using prepared = kernelCase.prepare(gpu);
  let cost = { flops: 0, bytes: 0, runs: 0 };
  using first = gpu.scope(() => {
    let result: { readonly tensor: ReturnType<typeof prepared.run> } | undefined;
    cost = gpu.tally(() => result = { tensor: prepared.run() });
    return result!.tensor;
  });
  await gpu.finished();
  let { ceiling } = options;
  if (cost.bytes === 0) { // a buffer copy, which has a ceiling of its own
    cost = { ...cost, bytes: kernelCase.bytes ?? 0 };
    ceiling = { ...ceiling, gbps: ceiling.bufferGbps };
  }

  const works: { name: string; work: Work }[] = [
    { name: "", work: deviceWork(gpu, () => void prepared.run(), options) },
  ];
  const opened: Disposable[] = [];
  const unable: Record<string, string> = {};
  for (const peer of task ? options.peers ?? [] : []) {
    const skipReason = pace?.skipReason(peer.name, task!);
    if (skipReason !== undefined) {
      remarks.push(`${peer.name}: ${skipReason}`);
      continue;
    }
    try {
      const theirs = await peer.prepare(task!);
      opened.push(theirs);
      if (!resultsAgree(await first.data(), await theirs.result())) unable[peer.name] = "computes a different result";
      else works.push({ name: peer.name, work: theirs });
    } catch (error) {
      unable[peer.name] = firstLine(error);
    }
  }
  try {
    const { times, failures } = await timeWhatCan(works, { ...options, isWarm: true });
    const [ours] = times;
    Object.assign(unable, failures);
    remarks.push(...Object.entries(unable).map(([name, why]) => `${name}: ${why}`));
    if (ours.timing.hostBound) remarks.push("bound by the host");
    if (task && (gpu.info.subgroupMatrix || gpu.info.arithmetic === "f16")) {
      remarks.push(`relative difference from f32: ${(await roundingError(gpu, task, first)).toExponential(1)}`);
    }
    const record = kernelRecord({ kernel, shape, ms: ours.timing.minMs, cost, real: real(gpu) }, ceiling);
    const others = times.slice(1).map(({ name, timing }) => [name, { ms: timing.minMs }] as const);
    for (const [name, { ms }] of others) pace?.note(name, task!, ms);
    return {
      record: {
        ...record,
        ...(task ? { task } : {}),
        ...(perStep === undefined ? {} : { perStep }),
        ...(others.length > 0 ? { peers: Object.fromEntries(others) } : {}),
        ...(Object.keys(unable).length > 0 ? { unable } : {}),
      },
      remarks,
    };
  } finally {
    for (const each of opened) each[Symbol.dispose]();
  }
}

/** The relative difference between a result with rounded operands and one in f32. */
async function roundingError(gpu: Gpu, task: PeerTask, rounded: Tensor): Promise<number> {
  using whole = prepareTask(gpu, task, { allowF16Operands: false });
  using result = gpu.scope(() => whole.run());
  return relativeError(await rounded.data(), await result.data());
}

/** Times all works in turns. A peer that fails is dropped and reported. */
async function timeWhatCan(works: readonly { name: string; work: Work }[], options: TimingOptions) {
  const failures: Record<string, string> = {};
  const failed = new Set<string>();
  for (;;) {
    const left = works.filter(({ name }) => !failed.has(name));
    const before = failed.size;
    const watched = left.map(({ name, work }): Work => ({
      async sample(count) {
        if (failed.has(name)) return { ms: 1 }; // this round is repeated without the peer
        try {
          return await work.sample(count);
        } catch (error) {
          if (name === "") throw error;
          failures[name] = firstLine(error);
          failed.add(name);
          return { ms: 1 };
        }
      },
    }));
    const timings = await timeInTurns(watched, options);
    if (failed.size === before) return { times: left.map(({ name }, i) => ({ name, timing: timings[i] })), failures };
  }
}
