/**
 * Locks for reading a file, changing it and writing it again.
 *
 * @module
 */

import { disk } from "./disk.ts";
import { naming } from "./output_error.ts";
import { followLinks, parentOf } from "./paths.ts";
import { discard, lockFile, lockName } from "./temporary.ts";

/** Waits between two attempts to take a lock. */
const retryMs = 20;

/**
 * Runs `body` while no other run that asks for the lock of `path` does; waits for it. The system
 * releases the lock when the process ends, however it ends.
 *
 * @throws {OutputError} where the folder cannot be written
 */
export async function withLock<T>(path: string, body: () => Promise<T>): Promise<T> {
  const place = await naming(path, () => followLinks(path));
  await naming(path, () => disk.mkdir(parentOf(place)));
  const name = await lockName(place);
  for (;;) {
    using lock = await naming(path, () => lockFile(name));
    if (lock === undefined) {
      await new Promise((resolve) => setTimeout(resolve, retryMs));
      continue;
    }
    try {
      return await body();
    } finally {
      await discard(name);
    }
  }
}
