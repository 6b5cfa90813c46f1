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
      firstAt = performance.now();
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
  }
}

/** Windows knows Ctrl-C only. */
function isKnownHere(name: EndSignal): boolean {
  return Deno.build.os !== "windows" || name === "SIGINT";
}

async function settled<T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  return (await Promise.allSettled([promise]))[0];
}
