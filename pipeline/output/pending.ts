/**
 * The writes in progress, so that a process that must end can undo them.
 *
 * @module
 */

import { stopWriting, throwIfStopped } from "./disk.ts";
import { discard } from "./temporary.ts";

const temporaries = new Set<string>();
const commits = new Set<Promise<unknown>>();

/** Notes a temporary file or folder while it is written. Disposing removes the note only. */
export function noteTemporary(path: string): Disposable {
  temporaries.add(path);
  return { [Symbol.dispose]: () => void temporaries.delete(path) };
}

/**
 * Runs the renames that put a result into place. {@linkcode abandonWrites} waits for those that
 * have begun, and none begins after it.
 */
export async function commit(body: () => Promise<void>): Promise<void> {
  throwIfStopped();
  const running = body();
  commits.add(running);
  try {
    await running;
  } finally {
    commits.delete(running);
  }
}

/**
 * Ends all writing before the process exits: results that are being put into place are finished,
 * all others are removed. Later writes fail with `reason`.
 */
export async function abandonWrites(reason: unknown): Promise<void> {
  stopWriting(reason);
  await Promise.allSettled([...commits]);
  for (const path of [...temporaries]) await discard(path);
}
