/**
 * Progress bars on a terminal; no output where standard error is not one.
 *
 * @module
 */
import cliProgress from "cli-progress";

/** A progress bar. Disposing it stops the updates and leaves the line on the terminal. */
export interface Progress extends Disposable {
  /** Adds `by` finished units; `note` replaces the text at the end of the line. */
  advance(by?: number, note?: string): void;
  /** Sets the number of finished units, and optionally a new total. */
  set(done: number, options?: { total?: number; note?: string }): void;
}

/**
 * Shows a bar on standard error for `total` units of work; does nothing if that is not a terminal.
 *
 * @example
 * ```ts
 * using progress = showProgress("drawing", { total: steps });
 * for (const step of plan) {
 *   await draw(step);
 *   progress.advance();
 * }
 * ```
 */
export function showProgress(
  label: string,
  options: { total: number; unit?: "count" | "bytes" },
): Progress {
  const { total, unit = "count" } = options;
  if (!Deno.stderr.isTerminal()) return { advance() {}, set() {}, [Symbol.dispose]() {} };

  const amount = (value: number): string => unit === "bytes" ? megabytes(value) : String(value);
  const bar = new cliProgress.SingleBar({
    format: (_: unknown, state: { progress: number; value: number; total: number }, payload: { note: string }) => {
      const width = 28;
      const filled = Math.round(Math.min(1, state.progress) * width);
      const ends = `${amount(state.value)}/${amount(state.total)}`;
      return `${label.padEnd(16)} ${"█".repeat(filled)}${"░".repeat(width - filled)} ${ends}  ${payload.note}`
        .trimEnd();
    },
    hideCursor: true,
    clearOnComplete: false,
    fps: 12,
  });
  bar.start(total, 0, { note: "" });
  return {
    advance(by = 1, note) {
      bar.increment(by, note === undefined ? {} : { note });
    },
    set(done, { total: newTotal, note } = {}) {
      if (newTotal !== undefined) bar.setTotal(newTotal);
      bar.update(done, note === undefined ? {} : { note });
    },
    [Symbol.dispose]() {
      bar.stop();
    },
  };
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
