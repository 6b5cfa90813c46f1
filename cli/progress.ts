/**
 * Progress on standard error: a bar on a terminal, a few lines elsewhere.
 *
 * @module
 */
import cliProgress from "cli-progress";
import type { Gpu } from "../engine/gpu.ts";
import { clearBefore, printMode } from "./printer.ts";
import { printable } from "./terminal.ts";

/** A progress display. Disposing it stops the updates and leaves the line on the terminal. */
export interface Progress extends Disposable {
  /** Adds `by` finished units; `note` replaces the text at the end of the line. */
  advance(by?: number, note?: string): void;
  /** Sets the number of finished units, and optionally a new total. */
  set(done: number, options?: { total?: number; note?: string }): void;
  /** Shows a remark at once, such as "compiling", until the next change. */
  remark(text: string): void;
}

/** How far a work is. */
export interface ProgressState {
  readonly done: number;
  readonly total: number;
  /** Since the start. */
  readonly elapsedMs: number;
  /** Since the start of the part that `total` is of. Default: it is the whole work. */
  readonly partMs?: number;
  /**
   * When the first units were done, and how many: what comes before, such as compiling, says
   * nothing about the rest. Default: the rate counts all units and all time.
   */
  readonly first?: { readonly done: number; readonly elapsedMs: number };
}

/** Where no terminal is, a line is written this often, and at the end of works that take longer. */
const lineEveryMs = 10_000;

/** What a display counts. */
interface ProgressOptions {
  readonly total: number;
  readonly unit?: "it" | "picture" | "bytes";
  /**
   * Where no terminal is, writes a line this often, also while no unit is finished. Default: a line
   * with a unit that is finished ten seconds after the last line.
   */
  readonly everyMs?: number;
}

/**
 * Shows the progress of `total` units of work: done of total, rate, elapsed and remaining time.
 * Writes a bar if standard error is a terminal, else a line every ten seconds; nothing with
 * --quiet.
 *
 * @example
 * ```ts
 * using progress = showProgress("drawing", { total: steps, unit: "it" });
 * for (const step of plan) {
 *   await draw(step);
 *   progress.advance();
 * }
 * ```
 */
export function showProgress(label: string, options: ProgressOptions): Progress {
  if (printMode().quiet) return { advance() {}, set() {}, remark() {}, [Symbol.dispose]() {} };
  return Deno.stderr.isTerminal() ? bar(label, options) : progressLines(label, options);
}

/** Says "compiling" on a progress display whenever the device compiles a kernel. */
export function remarkCompiling(gpu: Gpu, progress: Progress): Disposable {
  return gpu.onCompile(() => progress.remark("compiling kernels"));
}

/** "12/20, 3.4 it/s, 0:04 elapsed, 0:02 left" */
export function progressText(
  { done, total, elapsedMs, partMs = elapsedMs, first }: ProgressState,
  unit: "it" | "picture" | "bytes",
): string {
  const amount = unit === "bytes" ? `${megabytes(done)}/${megabytes(total)}` : `${done}/${total}`;
  if (partMs <= 0 || done <= 0) return amount;
  const isSteady = unit !== "bytes" && first !== undefined && elapsedMs > first.elapsedMs && done > first.done;
  const perSecond = 1000 *
    (isSteady ? (done - first.done) / (elapsedMs - first.elapsedMs) : done / partMs);
  const rate = unit === "bytes"
    ? `${megabytes(perSecond)}/s`
    : perSecond >= 1
    ? `${perSecond.toFixed(1)} ${unit}/s`
    : `${(1 / perSecond).toFixed(1)} s/${unit}`;
  const left = done >= total ? "" : `, ${clock((total - done) / perSecond)} left`;
  return `${amount}, ${rate}, ${clock(elapsedMs / 1000)} elapsed${left}`;
}

/** Shows the terminal's cursor, which a bar that was cut short has left hidden. */
export function showCursor(): void {
  if (Deno.stderr.isTerminal()) Deno.stderr.writeSync(new TextEncoder().encode("\x1b[?25h\n"));
}

/** Seconds as 0:07, 12:34 or 1:02:03. */
function clock(seconds: number): string {
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const tail = String(whole % 60).padStart(2, "0");
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

function bar(label: string, { total, unit = "it" }: ProgressOptions): Progress {
  const started = performance.now();
  let first: ProgressState["first"], part = { total, note: "" }, partStarted = started;
  const bar = new cliProgress.SingleBar({
    format: (_: unknown, state: { progress: number; value: number; total: number }, payload: { note: string }) => {
      const width = 20;
      const filled = Math.round(Math.min(1, state.progress) * width);
      const elapsedMs = performance.now() - started;
      if (state.value > 0) first ??= { done: state.value, elapsedMs };
      const partMs = performance.now() - partStarted;
      const text = progressText({ done: state.value, total: state.total, elapsedMs, partMs, first }, unit);
      return `${label.padEnd(10)} ${"█".repeat(filled)}${"░".repeat(width - filled)} ${text}  ${payload.note}`
        .trimEnd();
    },
    hideCursor: true,
    clearOnComplete: false,
    fps: 12,
  });
  bar.start(total, 0, { note: "" });
  const guard = clearBefore(() => Deno.stderr.writeSync(new TextEncoder().encode("\r\x1b[K")));
  return {
    advance(by = 1, note = "") {
      bar.increment(by, { note: printable(note) });
    },
    set(done, { total: newTotal, note } = {}) {
      if (newTotal !== undefined) {
        if (isNextPart(part, { total: newTotal, note })) partStarted = performance.now();
        part = { total: newTotal, note: note ?? part.note };
        bar.setTotal(newTotal);
      }
      bar.update(done, note === undefined ? {} : { note: printable(note) });
    },
    remark(text) {
      bar.update({ note: printable(text) });
      bar.render(); // the work that follows may block the timer that draws the bar
    },
    [Symbol.dispose]() {
      guard[Symbol.dispose]();
      bar.stop();
    },
  };
}

/** Whether a total is that of another part of the work, which has a rate of its own. */
function isNextPart(part: { total: number; note: string }, next: { total: number; note?: string }): boolean {
  return next.total !== part.total || (next.note ?? part.note) !== part.note;
}

/** What lines of progress depend on; tests have their own. */
interface LineHost {
  /** Milliseconds since any fixed time. */
  readonly now: () => number;
  /** Calls `body` at intervals until the result is disposed of. */
  readonly every: (ms: number, body: () => void) => Disposable;
  readonly write: (line: string) => void;
}

const thisProcess: LineHost = {
  now: () => performance.now(),
  every(ms, body) {
    const timer = setInterval(body, ms);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  },
  write: writeLine,
};

/** Progress where no terminal is: a line now and then. */
export function progressLines(
  label: string,
  { total, unit = "it", everyMs }: ProgressOptions,
  { now, every, write: writeLine }: LineHost = thisProcess,
): Progress {
  const started = now();
  let state = { done: 0, total }, lastLine = started, lastDone = -1, remarked = "";
  let part = { total, note: "" }, partStarted = started;
  const write = () => {
    lastLine = now();
    lastDone = state.done;
    const times = { elapsedMs: lastLine - started, partMs: lastLine - partStarted };
    writeLine(`${label}: ${part.note === "" ? "" : `${part.note} `}${progressText({ ...state, ...times }, unit)}`);
  };
  const timer = everyMs === undefined ? undefined : every(everyMs, write);
  const change = (next: { done: number; total: number }) => {
    state = next;
    if (everyMs === undefined && now() - lastLine >= lineEveryMs) write();
  };
  return {
    advance(by = 1) {
      change({ ...state, done: state.done + by });
    },
    set(done, { total, note } = {}) {
      if (total !== undefined) {
        if (isNextPart(part, { total, note })) partStarted = now();
        part = { total, note: note ?? part.note };
      }
      change({ done, total: total ?? state.total });
    },
    remark(text) {
      if (text === remarked) return;
      remarked = text;
      writeLine(`${label}: ${text}`);
    },
    [Symbol.dispose]() {
      timer?.[Symbol.dispose]();
      if (lastDone >= 0 && state.done !== lastDone) write();
    },
  };
}

/** Writes to standard error; a reader that has gone is no reason to stop the work. */
function writeLine(text: string): void {
  try {
    Deno.stderr.writeSync(new TextEncoder().encode(`${printable(text)}\n`));
  } catch {
    // as above
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
