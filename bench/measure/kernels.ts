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
import { type DeviceTiming, replayedWork, timeInTurns, type TimingOptions, type Work } from "./timing.ts";

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

/** Work and the name of who does it; empty for this project. */
interface NamedWork {
  readonly name: string;
  readonly work: Work;
}

/** Times one kernel at one size. */
export async function measureKernel(
  gpu: Gpu,
  kernelCase: KernelCase,
  options: KernelBenchOptions,
): Promise<KernelResult> {
  const { kernel, shape, task, perStep, real = () => "f32" as const } = kernelCase;
  using prepared = kernelCase.prepare(gpu);
  let cost = { flops: 0, bytes: 0, runs: 0 };
  using first = gpu.scope(() => {
    let result: { readonly tensor: Tensor } | undefined;
    cost = gpu.tally(() => result = { tensor: prepared.run() });
    return result!.tensor;
  });
  await gpu.finished();
  let { ceiling } = options;
  if (cost.bytes === 0) { // a buffer copy, which has a ceiling of its own
    cost = { ...cost, bytes: kernelCase.bytes ?? 0 };
    ceiling = { ...ceiling, gbps: ceiling.bufferGbps };
  }
  using peers = await preparePeers(task, first, options);
  using work = replayedWork(gpu, () => void prepared.run(), options);
  const { times: [ours, ...others], failures } = await timeWhatCan([{ name: "", work }, ...peers.works], {
    ...options,
    isWarm: true,
  });
  const unable = { ...peers.unable, ...failures };
  const remarks = [...peers.skipped, ...Object.entries(unable).map(([name, why]) => `${name}: ${why}`)];
  if (ours.timing.hostBound) remarks.push("bound by the host");
  if (task && (gpu.info.subgroupMatrix || gpu.info.arithmetic === "f16")) {
    remarks.push(`relative difference from f32: ${(await roundingError(gpu, task, first)).toExponential(1)}`);
  }
  for (const { name, timing } of others) options.pace?.note(name, task!, timing.minMs);
  const peerTimes = Object.fromEntries(others.map(({ name, timing }) => [name, { ms: timing.minMs }]));
  return {
    record: {
      ...kernelRecord({ kernel, shape, ms: ours.timing.minMs, cost, real: real(gpu) }, ceiling),
      ...(task ? { task } : {}),
      ...(perStep === undefined ? {} : { perStep }),
      ...(others.length > 0 ? { peers: peerTimes } : {}),
      ...(Object.keys(unable).length > 0 ? { unable } : {}),
    },
    remarks,
  };
}

/** What other engines have prepared of a task. */
interface PreparedPeers extends Disposable {
  readonly works: readonly NamedWork[];
  /** Engines that failed or computed another result, with the reasons. */
  readonly unable: Readonly<Record<string, string>>;
  /** Remarks on engines that would take too long. */
  readonly skipped: readonly string[];
}

/** Prepares a task in other engines, of those whose result is `expected`. None without a task. */
async function preparePeers(
  task: PeerTask | undefined,
  expected: Tensor,
  { peers = [], pace }: Pick<KernelBenchOptions, "peers" | "pace">,
): Promise<PreparedPeers> {
  using opened = new DisposableStack();
  const works: NamedWork[] = [], unable: Record<string, string> = {}, skipped: string[] = [];
  for (const peer of task ? peers : []) {
    const skipReason = pace?.skipReason(peer.name, task!);
    if (skipReason !== undefined) {
      skipped.push(`${peer.name}: ${skipReason}`);
      continue;
    }
    try {
      const theirs = opened.use(await peer.prepare(task!));
      if (resultsAgree(await expected.data(), await theirs.result())) works.push({ name: peer.name, work: theirs });
      else unable[peer.name] = "computes a different result";
    } catch (error) {
      unable[peer.name] = firstLine(error);
    }
  }
  const owned = opened.move();
  return { works, unable, skipped, [Symbol.dispose]: () => owned.dispose() };
}

/** The relative difference between a result with rounded operands and one in f32. */
async function roundingError(gpu: Gpu, task: PeerTask, rounded: Tensor): Promise<number> {
  using whole = prepareTask(gpu, task, { allowF16Operands: false });
  using result = gpu.scope(() => whole.run());
  return relativeError(await rounded.data(), await result.data());
}

/** Times all works in turns. A peer that fails is dropped and reported. */
async function timeWhatCan(works: readonly NamedWork[], options: TimingOptions) {
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
