/**
 * Files that grow by whole records, such as results that a run resumes (Deno only).
 *
 * @module
 */

import { OutputError } from "../errors.ts";
import { disk } from "./disk.ts";
import { naming } from "./output_error.ts";
import { commit } from "./pending.ts";
import { type LockedFile, lockFile } from "./temporary.ts";
import { targetOf } from "./target.ts";

/**
 * A file that records are appended to. Its lock keeps a second run from appending; the system
 * releases it when the process ends, however it ends.
 */
export class AppendedFile implements Disposable {
  readonly #locked: LockedFile;
  #size: number;

  private constructor(readonly path: string, locked: LockedFile, size: number) {
    this.#locked = locked;
    this.#size = size;
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
    const { place } = await targetOf(path);
    const locked = await naming(path, () => lockFile(place));
    if (locked === undefined) {
      throw new OutputError(
        `Cannot append to ${path} as another run is appending to it: wait for it, or write to another file`,
        { path },
      );
    }
    try {
      const content = await naming<Uint8Array<ArrayBuffer>>(path, () => Deno.readFile(place));
      const size = recognize(content);
      if (size < content.byteLength) await naming(path, () => disk.truncate(locked.file, path, size));
      return new AppendedFile(path, locked, size);
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
        } catch (error) {
          await disk.truncate(file, this.path, this.#size).catch(() => {});
          throw error;
        }
      })
    );
  }

  /** Closes the file and releases its lock. */
  [Symbol.dispose](): void {
    this.#locked[Symbol.dispose]();
  }
}
