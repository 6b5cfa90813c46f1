/**
 * Progress on a terminal, and silence where nobody looks.
 *
 * @module
 */
import cliProgress from "cli-progress";

/** Work of a known length that is under way. Disposing it leaves its line as it stands. */
export interface Progress extends Disposable {
  /** `by` more units are done; `note` replaces what stands at the end of the line. */
  advance(by?: number, note?: string): void;
  /** `done` units are done in all. `total` may be corrected on the way. */
  set(done: number, options?: { total?: number; note?: string }): void;
}

/**
 * Shows a bar on standard error for `total` units of work, or nothing at all where that is no
 * terminal.
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
