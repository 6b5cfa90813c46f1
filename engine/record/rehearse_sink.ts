import type { Grid } from "../kernel/declaration.ts";
import type { CompiledKernel } from "../kernel/pipeline_cache.ts";
import { type DispatchRecord, packedParams, type ProgramCommand, type Sink } from "./sink.ts";

/** A dispatch that was rehearsed. */
export interface RehearsedRun {
  readonly kernel: CompiledKernel;
  /** Bytes that each binding covers. */
  readonly bindingBytes: readonly number[];
  /** The uniform parameters, packed. */
  readonly params: Uint8Array<ArrayBuffer>;
  readonly grid: Grid;
}

/** Notes dispatches and executes nothing. */
export class RehearseSink implements Sink {
  readonly needsCost = false;
  readonly #onRun: (run: RehearsedRun) => void;

  constructor(onRun: (run: RehearsedRun) => void) {
    this.#onRun = onRun;
  }

  dispatch(record: DispatchRecord): void {
    const { kernel, entries, grid } = record;
    this.#onRun({ kernel, bindingBytes: entries.map(({ size }) => size!), params: packedParams(record), grid });
  }

  replay(commands: readonly ProgramCommand[]): void {
    for (const command of commands) {
      if ("record" in command) this.dispatch(command.record);
    }
  }

  copy(): void {}
}
