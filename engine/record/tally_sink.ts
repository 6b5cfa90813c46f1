import type { Cost } from "../kernel/declaration.ts";
import type { CopyRecord, DispatchRecord, ParamSlots, ProgramCommand, Sink } from "./sink.ts";

/** Number and total cost of dispatches. */
export interface Tally {
  /** Number of dispatches. */
  readonly runs: number;
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

  constructor(target: Sink) {
    this.#target = target;
  }

  get total(): Tally {
    return this.#total;
  }

  dispatch(record: DispatchRecord): void {
    this.#add(record.cost);
    this.#target.dispatch(record);
  }

  replay(commands: readonly ProgramCommand[], params: ParamSlots): void {
    for (const command of commands) {
      if ("record" in command) this.#add(command.record.cost);
    }
    this.#target.replay(commands, params);
  }

  copy(record: CopyRecord): void {
    this.#target.copy(record);
  }

  #add(cost: Cost | undefined): void {
    if (!cost) return;
    this.#total.runs++;
    this.#total.flops += cost.flops;
    this.#total.bytes += cost.bytes;
  }
}
