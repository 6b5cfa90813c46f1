/**
 * The signals that end a command, handled in one place for all commands.
 *
 * @module
 */
import { stopWriting } from "../pipeline/output/disk.ts";
import { abandonWrites } from "../pipeline/output/pending.ts";

/** Signals with the exit codes by which shells know them: 128 + the signal's number. */
const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

type EndSignal = keyof typeof exitCodes;

/**
 * How long a command may go on after the first signal, to end by itself: a drawing stops after its
 * step, a short save is finished. A second signal ends it at once.
 */
const graceMs = 1500;

/**
 * Within this time, a further signal is the same key stroke: the terminal and "deno task" both pass
 * it on.
 */
const echoMs = 300;

let current: AbortSignal | undefined;

/** SIGTERM asks a command that defers it to stop at the next good place. */
let deferred: AbortController | undefined;

/** Exit code of a command that stopped at SIGTERM and is to be run again: EX_TEMPFAIL. */
const pausedCode = 75;

/** A command has stopped at SIGTERM, with all work saved that it had begun. */
export class PausedError extends Error {
  override name = "PausedError";
  /** The exit code, by which a scheduler knows to run the command again. */
  readonly exitCode = pausedCode;
}

/**
 * Makes SIGTERM a request, until disposed of: it fires the result's signal alone, with a
 * {@linkcode PausedError} as its reason, and the command stops where everything is saved. A second
 * signal, and Ctrl-C, end it at once as ever.
 */
export function deferTermination(): DeferredTermination {
  const controller = deferred = new AbortController();
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      if (deferred === controller) deferred = undefined;
    },
  };
}

/** SIGTERM as a request; see {@linkcode deferTermination}. */
export interface DeferredTermination extends Disposable {
  /** Fires when SIGTERM comes. */
  readonly signal: AbortSignal;
}

/** The abort signal of the running command: it fires on Ctrl-C and SIGTERM. */
export function interruptSignal(): AbortSignal {
  return current ?? new AbortController().signal;
}

/**
 * Runs a command until it ends or a signal ends it. Whatever the command does meanwhile (loading,
 * downloading, solving, drawing, saving), files and folders that are being written are finished or
 * removed before this returns.
 *
 * @returns what the command returned, and the exit code of the signal if there was one
 */
export async function untilInterrupted<T>(
  body: () => Promise<T>,
): Promise<{ result: PromiseSettledResult<T>; exitCode?: number }> {
  const controller = new AbortController();
  const reason = new DOMException("interrupted", "AbortError");
  const ended = Promise.withResolvers<void>();
  let exitCode: number | undefined;
  let firstAt = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const listeners = (Object.keys(exitCodes) as EndSignal[]).filter(isKnownHere).map((name) => {
    const listener = () => {
      if (exitCode !== undefined) {
        if (performance.now() - firstAt > echoMs) ended.resolve();
        return;
      }
      const before = firstAt;
      firstAt = performance.now();
      if (name === "SIGTERM" && deferred !== undefined) {
        if (!deferred.signal.aborted || firstAt - before <= echoMs) {
          deferred.abort(new PausedError("stopped by SIGTERM; run it again to go on"));
          return;
        }
      }
      exitCode = exitCodes[name];
      controller.abort(reason);
      timer = setTimeout(ended.resolve, graceMs);
    };
    Deno.addSignalListener(name, listener);
    return [name, listener] as const;
  });
  current = controller.signal;
  const running = settled(body());
  try {
    const result = await Promise.race([running, ended.promise]);
    if (exitCode === undefined) return { result: result! };
    await abandonWrites(reason);
    running.then(() => stopWriting(undefined));
    return { result: result ?? { status: "rejected", reason }, exitCode };
  } finally {
    if (timer !== undefined) clearTimeout(timer);
    for (const [name, listener] of listeners) Deno.removeSignalListener(name, listener);
    current = undefined;
    deferred = undefined;
  }
}

/** Windows knows Ctrl-C only. */
function isKnownHere(name: EndSignal): boolean {
  return Deno.build.os !== "windows" || name === "SIGINT";
}

async function settled<T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  return (await Promise.allSettled([promise]))[0];
}
