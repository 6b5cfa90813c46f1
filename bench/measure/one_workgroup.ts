/**
 * Kernel runs that were rehearsed, done on one workgroup each: what a kernel takes to compile it
 * then takes, and next to no arithmetic.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import type { RehearsedRun } from "../../engine/record/rehearse_sink.ts";
import { Tensor } from "../../engine/tensor.ts";

/** Rehearsed runs, each kernel once with each of its parameters, over memory of their own. */
export class OneWorkgroupRuns implements Disposable {
  readonly runs: readonly RehearsedRun[];
  readonly #gpu: Gpu;
  /**
   * One tensor a binding, since a kernel may not write what it reads. What they hold does not
   * matter.
   */
  readonly #memory: readonly Tensor[];

  constructor(gpu: Gpu, runs: readonly RehearsedRun[]) {
    const distinct = new Map<string, RehearsedRun>();
    const lengths: number[] = [];
    for (const run of runs) {
      const key = `${run.kernel.id} ${run.params}`;
      if (!distinct.has(key)) distinct.set(key, run);
      run.bindingBytes.forEach((bytes, binding) => lengths[binding] = Math.max(lengths[binding] ?? 16, bytes));
    }
    this.#gpu = gpu;
    this.runs = [...distinct.values()];
    this.#memory = lengths.map((bytes) => Tensor.from(gpu, new Uint32Array(bytes / 4), [bytes / 4]));
  }

  /** Records all of them, each under its index as its name. */
  record(): void {
    for (const [index, run] of this.runs.entries()) {
      const entries = run.bindingBytes.map((size, binding) => ({
        buffer: this.#memory[binding].buffer,
        offset: 0,
        size,
      }));
      const pack = (view: DataView) => new Uint8Array(view.buffer, view.byteOffset).set(run.params);
      this.#gpu.context.recorder.dispatch({
        kernel: run.kernel,
        entries,
        pack,
        grid: [1, 1, 1],
        name: `${index}`,
        cost: undefined,
      });
    }
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#memory) tensor[Symbol.dispose]();
  }
}

/**
 * Has the driver compile all that `body` runs, without doing it: for work of minutes that is to be
 * timed warm.
 */
export async function compileAhead(gpu: Gpu, body: () => void | Promise<void>): Promise<void> {
  {
    using runs = new OneWorkgroupRuns(gpu, await gpu.context.rehearse(body));
    runs.record();
    await gpu.finished();
  }
  gpu.trim();
}
