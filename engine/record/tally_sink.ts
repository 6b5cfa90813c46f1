import type { CopyRecord, DispatchRecord, ParamSlots, ProgramCommand, Sink } from "./sink.ts";

/** Number, kernels and total cost of dispatches. */
export interface Tally {
  /** Number of dispatches. */
  readonly runs: number;
  /** The names of the kernels that ran, each once, in the order of their first dispatch. */
  readonly kernels: readonly string[];
  /** Floating-point operations, by the kernels' declarations. */
  readonly flops: number;
  /** Bytes moved, by the kernels' declarations. */
  readonly bytes: number;
}

/** Adds up the costs of dispatches and passes everything on to another sink. */
export class TallySink implements Sink {
  readonly needsCost = true;
  readonly #target: Sink;
  readonly #total = { runs: 0, flops: 0, bytes: 0 };
  readonly #kernels = new Set<string>();

  constructor(target: Sink) {
    this.#target = target;
  }

  get total(): Tally {
    return { ...this.#total, kernels: [...this.#kernels] };
  }

  dispatch(record: DispatchRecord): void {
    this.#add(record);
    this.#target.dispatch(record);
  }

  replay(commands: readonly ProgramCommand[], params: ParamSlots): void {
    for (const command of commands) {
      if ("record" in command) this.#add(command.record);
    }
    this.#target.replay(commands, params);
  }

  copy(record: CopyRecord): void {
    this.#target.copy(record);
  }

  #add({ name, cost }: DispatchRecord): void {
    if (!cost) return;
    this.#kernels.add(name);
    this.#total.runs++;
    this.#total.flops += cost.flops;
    this.#total.bytes += cost.bytes;
  }
}
