/**
 * Files that grow by whole records, such as results that a run resumes (Deno only).
 *
 * @module
 */

import { OutputError } from "../errors.ts";
import { disk } from "./disk.ts";
import { naming } from "./output_error.ts";
import { infoAt } from "./paths.ts";
import { commit, noteTemporary } from "./pending.ts";
import { discard, type LockedFile, lockFile } from "./temporary.ts";
import { targetOf } from "./target.ts";

/**
 * A file that records are appended to. Its lock keeps a second run from appending; the system
 * releases it when the process ends, however it ends. A file that was created here and got no
 * record is removed at the end.
 */
export class AppendedFile implements AsyncDisposable {
  readonly #locked: LockedFile;
  #size: number;
  /** The note of a new file, while it is empty. */
  #newNote: Disposable | undefined;

  private constructor(readonly path: string, locked: LockedFile, size: number, newNote: Disposable | undefined) {
    this.#locked = locked;
    this.#size = size;
    this.#newNote = newNote;
  }

  /**
   * Opens a file for appending, and creates it if there is none.
   *
   * @param recognize is given the content and returns how many of its bytes are whole records of
   *   ours; what follows is an incomplete record of ours and is cut off. It throws for the file of
   *   another program, which then stays as it is.
   * @throws {OutputError} where the file cannot be written, or another run appends to it
   */
  static async open(
    path: string,
    recognize: (content: Uint8Array<ArrayBuffer>) => number,
  ): Promise<AppendedFile> {
    const { place, old } = await targetOf(path);
    const locked = await naming(path, () => lockFile(place));
    if (locked === undefined) {
      const last = (await infoAt(place).catch(() => undefined))?.mtime?.toISOString();
      throw new OutputError(
        `Cannot append to ${path} as another run is appending to it${last ? ` (last at ${last})` : ""}: ` +
          "wait for it, end it, or write to another file",
        { path },
      );
    }
    try {
      const content = await naming<Uint8Array<ArrayBuffer>>(path, () => Deno.readFile(place));
      const size = recognize(content);
      if (size < content.byteLength) await naming(path, () => disk.truncate(locked.file, path, size));
      const isNew = old === undefined && size === 0;
      return new AppendedFile(path, locked, size, isNew ? noteTemporary(place) : undefined);
    } catch (error) {
      locked[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Appends one or more records and waits until they are on the disk. A failure takes back what was
   * written of them.
   *
   * @throws {OutputError} when the operating system rejects the write
   */
  async append(records: string): Promise<void> {
    const bytes = new TextEncoder().encode(records);
    const { file } = this.#locked;
    await commit(() =>
      naming(this.path, async () => {
        try {
          await file.seek(this.#size, Deno.SeekMode.Start);
          await disk.write(file, this.path, bytes);
          await disk.sync(file, this.path);
          this.#size += bytes.byteLength;
          this.#newNote?.[Symbol.dispose]();
          this.#newNote = undefined;
        } catch (error) {
          await disk.truncate(file, this.path, this.#size).catch(() => {});
          throw error;
        }
      })
    );
  }

  /** Closes the file and releases its lock. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#newNote !== undefined) {
      await discard(this.#locked.path);
      this.#newNote[Symbol.dispose]();
    }
    this.#locked[Symbol.dispose]();
  }
}
