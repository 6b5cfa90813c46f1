import type { DeviceContext } from "../context.ts";
import { BindGroups } from "./bind_groups.ts";
import { type KernelProfile, Profiler } from "./profiler.ts";
import { type RehearsedRun, RehearseSink } from "./rehearse_sink.ts";
import type { CopyRecord, DispatchRecord, ParamSlots, ProgramCommand, Sink } from "./sink.ts";
import { maxDispatches, SubmitSink } from "./submit_sink.ts";
import { type Tally, TallySink } from "./tally_sink.ts";

/**
 * Passes what kernels record to the current sink: by default the one that submits to the device;
 * for the duration of a capture, a rehearsal, a profile or a tally, another.
 */
export class Recorder implements Disposable {
  readonly groups: BindGroups;
  /** The sink that submits to the device. */
  readonly submitSink: SubmitSink;
  readonly #context: DeviceContext;
  /** The sinks in use; the last is the current one. */
  readonly #sinks: Sink[];
  #sink: Sink;

  constructor(context: DeviceContext) {
    this.#context = context;
    this.groups = new BindGroups(context);
    this.#sink = this.submitSink = new SubmitSink(context, this.groups);
    this.#sinks = [this.submitSink];
  }

  /** Whether dispatches must carry their cost. */
  get needsCost(): boolean {
    return this.#sink.needsCost;
  }

  /** Whether dispatches are noted and not executed. */
  get rehearsing(): boolean {
    return this.#sinks.some((sink) => sink instanceof RehearseSink);
  }

  /** Records one dispatch. */
  dispatch(record: DispatchRecord): void {
    this.#sink.dispatch(record);
  }

  /** Records a copy between buffers, in order with the dispatches. */
  copy(record: CopyRecord): void {
    this.#sink.copy(record);
  }

  /**
   * Records the commands of a program, with its own parameters.
   *
   * @throws {GpuError} while another program is captured; {@linkcode DeviceLostError} when the
   *   device is lost
   */
  replay(commands: readonly ProgramCommand[], params: ParamSlots): void {
    this.#context.throwIfLost();
    this.#sink.replay(commands, params);
  }

  /** Hands everything recorded to the device. Does not wait. */
  submit(): void {
    for (const sink of this.#sinks) sink.submit?.();
  }

  /** Makes a sink the current one until the result is disposed of. */
  use(sink: Sink): Disposable {
    this.#sinks.push(sink);
    this.#sink = sink;
    return {
      [Symbol.dispose]: () => {
        const index = this.#sinks.lastIndexOf(sink);
        if (index >= 0) this.#sinks.splice(index, 1);
        this.#sink = this.#sinks.at(-1)!;
      },
    };
  }

  /** See {@linkcode Gpu.profile}. */
  async profile(body: () => void | Promise<void>): Promise<KernelProfile[]> {
    this.submit();
    using profiler = new Profiler(this.#context, maxDispatches);
    using sink = new SubmitSink(this.#context, this.groups, profiler);
    try {
      using _ = this.use(sink);
      try {
        await body();
      } finally {
        sink.submit();
      }
    } catch (error) {
      await profiler.rows().catch(() => {}); // the profiler's buffers are in use until then
      throw error;
    }
    return await profiler.rows();
  }

  /** See {@linkcode GpuContext.rehearse}. */
  async rehearse(
    body: () => void | Promise<void>,
    onRun: (run: RehearsedRun) => void = () => {},
  ): Promise<RehearsedRun[]> {
    const runs: RehearsedRun[] = [];
    this.submit();
    using _ = this.use(
      new RehearseSink((run) => {
        runs.push(run);
        onRun(run);
      }),
    );
    const waiting = body();
    // a body that does not wait is rehearsed in one turn of the event loop
    if (waiting) await waiting;
    return runs;
  }

  /** See {@linkcode Gpu.tally}. */
  tally(body: () => void): Tally {
    const sink = new TallySink(this.#sink);
    using _ = this.use(sink);
    body();
    return sink.total;
  }

  /** Frees the buffers of the recorder. */
  [Symbol.dispose](): void {
    this.groups.clear();
    this.submitSink[Symbol.dispose]();
  }
}
