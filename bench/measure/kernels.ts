/**
 * Measures kernels one after the other, with other engines in turns where there are any.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { type KernelCase, prepareTask } from "../cases/cases.ts";
import type { Ceiling } from "./ceiling.ts";
import { type Peer, type PeerPace, resultsAgree } from "../peers/peers.ts";
import { relativeDifference } from "./relative_difference.ts";
import { type KernelRecord, kernelRecord } from "../report/report.ts";
import type { PeerTask } from "../cases/task.ts";
import { deviceWork, timeInTurns, type TimingOptions, type Work } from "./timing.ts";

/** How kernels are measured. */
export interface KernelBenchOptions extends TimingOptions {
  readonly ceiling: Ceiling;
  /** The price of a wait. */
  readonly waitMs: number;
  /** Default: none. */
  readonly peers?: readonly Peer[];
  /**
   * What they were seen to manage; those that would take too long sit out. Default: nobody does.
   */
  readonly pace?: PeerPace;
}

/** A kernel's record, and what a reader should know of it. */
export interface KernelResult {
  readonly record: KernelRecord;
  /** Failures of peers, and times that are the host's. */
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
  let cost = { flops: 0, bytes: 0 };
  using first = gpu.scope(() => {
    let result: { readonly tensor: ReturnType<typeof prepared.run> } | undefined;
    cost = gpu.tally(() => result = { tensor: prepared.run() });
    return result!.tensor;
  });
  await gpu.finished();
  let { ceiling } = options;
  if (cost.bytes === 0) { // no kernel ran: the device copies from buffer to buffer, and has another ceiling for that
    cost = { flops: 0, bytes: kernelCase.bytes ?? 0 };
    ceiling = { ...ceiling, gbps: ceiling.bufferGbps };
  }

  const works: { name: string; work: Work }[] = [
    { name: "", work: deviceWork(gpu, () => void prepared.run(), options) },
  ];
  const opened: Disposable[] = [];
  const unable: Record<string, string> = {};
  for (const peer of task ? options.peers ?? [] : []) {
    const refusal = pace?.refusal(peer.name, task!);
    if (refusal !== undefined) {
      remarks.push(`${peer.name}: ${refusal}`);
      continue;
    }
    try {
      const theirs = await peer.prepare(task!);
      opened.push(theirs);
      if (!resultsAgree(await first.data(), await theirs.result())) unable[peer.name] = "another result";
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
    if (ours.timing.hostBound) remarks.push("the host's time");
    if (task && gpu.info.subgroupMatrix) {
      remarks.push(`${(await roundingError(gpu, task, first)).toExponential(1)} from f32`);
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

/** How far a task's result is from that without rounded operands, as a share of its norm. */
async function roundingError(gpu: Gpu, task: PeerTask, rounded: Tensor): Promise<number> {
  using whole = prepareTask(gpu, task, { allowF16Operands: false });
  using result = gpu.scope(() => whole.run());
  return relativeDifference(await rounded.data(), await result.data());
}

/** Times all works in turns; one of a peer that fails on the way is left out and told of. */
async function timeWhatCan(works: readonly { name: string; work: Work }[], options: TimingOptions) {
  const failures: Record<string, string> = {};
  const failed = new Set<string>();
  for (;;) {
    const left = works.filter(({ name }) => !failed.has(name));
    const before = failed.size;
    const watched = left.map(({ name, work }): Work => ({
      async sample(count) {
        if (failed.has(name)) return { ms: 1 }; // this round is lost: it is taken again without the peer
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

/** The start of an error's message: peers' run to pages. */
export function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const line = text.split("\n").find((each) => each.trim() !== "")?.trim() ?? "failed";
  return line.length > 160 ? `${line.slice(0, 157)}…` : line;
}
