import type { DeviceContext } from "../context.ts";
import type { Cost } from "../kernel/declaration.ts";

/** One row of a profile: all dispatches of one kernel. */
export interface KernelProfile {
  /** The kernel's name. */
  readonly kernel: string;
  /** Number of dispatches. */
  readonly runs: number;
  /** Time on the device, in milliseconds. */
  readonly ms: number;
  /** Floating-point operations, by the kernel's declaration. */
  readonly flops: number;
  /** Bytes moved, by the kernel's declaration. */
  readonly bytes: number;
}

interface TimedDispatch {
  readonly name: string;
  readonly cost: Cost | undefined;
}

/**
 * Timestamps of single dispatches. A pass per dispatch changes the timing slightly: good for
 * attribution, not for exact totals.
 */
export class Profiler implements Disposable {
  readonly #context: DeviceContext;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  #batch: TimedDispatch[] = [];
  readonly #batches: { dispatches: TimedDispatch[]; timestamps: Promise<ArrayBuffer> }[] = [];

  /** @param capacity dispatches of one submission, at most */
  constructor(context: DeviceContext, capacity: number) {
    this.#context = context;
    this.#queries = context.device.createQuerySet({ type: "timestamp", count: 2 * capacity });
    this.#resolved = context.device.createBuffer({
      size: 16 * capacity,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
  }

  /** Adds a dispatch to the batch; returns the timestamps for its pass. */
  start(name: string, cost: Cost | undefined): GPUComputePassTimestampWrites {
    const index = this.#batch.push({ name, cost }) - 1;
    return { querySet: this.#queries, beginningOfPassWriteIndex: 2 * index, endOfPassWriteIndex: 2 * index + 1 };
  }

  /** Encodes the end of the batch. */
  resolve(encoder: GPUCommandEncoder): void {
    if (this.#batch.length > 0) encoder.resolveQuerySet(this.#queries, 0, 2 * this.#batch.length, this.#resolved, 0);
  }

  /** Reads the timestamps of the batch, which has been submitted. */
  collect(): void {
    const dispatches = this.#batch;
    this.#batch = [];
    if (dispatches.length === 0) return;
    const timestamps = this.#context.read(this.#resolved, 16 * dispatches.length);
    timestamps.catch(() => {}); // rows() throws it
    this.#batches.push({ dispatches, timestamps });
  }

  /** The times so far, by kernel, slowest first. */
  async rows(): Promise<KernelProfile[]> {
    const rows = new Map<string, { kernel: string; runs: number; ms: number; flops: number; bytes: number }>();
    for (const { dispatches, timestamps } of this.#batches) {
      const times = new BigUint64Array(await timestamps);
      dispatches.forEach(({ name, cost }, index) => {
        const row = rows.get(name) ?? { kernel: name, runs: 0, ms: 0, flops: 0, bytes: 0 };
        rows.set(name, row);
        row.runs++;
        row.ms += Number(times[2 * index + 1] - times[2 * index]) / 1e6;
        row.flops += cost?.flops ?? 0;
        row.bytes += cost?.bytes ?? 0;
      });
    }
    return [...rows.values()].sort((a, b) => b.ms - a.ms);
  }

  [Symbol.dispose](): void {
    this.#queries.destroy();
    this.#resolved.destroy();
  }
}
