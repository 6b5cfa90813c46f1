/**
 * Writes of whole files: they appear complete or not at all (Deno only).
 *
 * @module
 */

import { OutputError } from "../errors.ts";
import type { ByteSink } from "./byte_sink.ts";
import { disk } from "./disk.ts";
import { naming } from "./output_error.ts";
import { parentOf } from "./paths.ts";
import { commit, noteTemporary } from "./pending.ts";
import { targetOf } from "./target.ts";
import { createTemporary, discard, removeStrays } from "./temporary.ts";

/** How a file is put into place. */
export interface WriteOptions {
  /**
   * Whether a file of that name, which another run may have written meanwhile, is an error and not
   * replaced: {@linkcode isTaken} knows the error. Default: false.
   */
  readonly isNew?: boolean;
}

/** Whether a write failed because there is a file of that name. */
export function isTaken(error: unknown): boolean {
  return error instanceof OutputError && error.cause instanceof Deno.errors.AlreadyExists;
}

/**
 * Writes a file: a temporary beside the target is written, flushed and renamed, so that readers see
 * the old file or the new one. The folder is created where it is missing. Symbolic links are
 * followed and stay; the permissions of an older file are kept. A failure removes the temporary,
 * and the next write into the folder removes those of dead runs.
 *
 * @throws {OutputError} when the operating system rejects the write
 * @throws What `write` throws.
 */
export async function writeFileAtomically(
  path: string,
  write: (sink: ByteSink) => Promise<unknown>,
  { isNew = false }: WriteOptions = {},
): Promise<void> {
  const { place, old } = await targetOf(path);
  await removeStrays(parentOf(place));
  using temporary = await naming(path, () => createTemporary(place));
  using _note = noteTemporary(temporary.path);
  try {
    await write((chunk) => naming(path, () => disk.write(temporary.file, path, chunk)));
    await naming(path, async () => {
      await disk.sync(temporary.file, path);
      if (old !== undefined) await disk.adopt(temporary.path, old);
      // Windows does not rename open files.
      if (Deno.build.os === "windows") temporary[Symbol.dispose]();
      await commit(() => isNew ? disk.renameNew(temporary.path, place) : disk.rename(temporary.path, place));
    });
  } catch (error) {
    await discard(temporary.path);
    throw error;
  }
}

/** Writes bytes as {@linkcode writeFileAtomically} does. @throws {OutputError} as it does. */
export async function writeBytes(path: string, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
  await writeFileAtomically(path, async (sink) => await sink(bytes), options);
}

/** Writes text as {@linkcode writeFileAtomically} does. @throws {OutputError} as it does. */
export async function writeText(path: string, text: string): Promise<void> {
  await writeBytes(path, new TextEncoder().encode(text));
}

/** Writes indented JSON as {@linkcode writeText} does. @throws {OutputError} as it does. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeText(path, JSON.stringify(value, null, 2) + "\n");
}
