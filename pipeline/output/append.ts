/**
 * Files that grow by whole records, such as results that a run resumes (Deno only).
 *
 * @module
 */

import { OutputError } from "../errors.ts";
import { disk } from "./disk.ts";
import { holderAt, holderText, noteHolder } from "./holder.ts";
import { naming } from "./output_error.ts";
import { infoAt } from "./paths.ts";
import { commit, noteTemporary } from "./pending.ts";
import { discard, type LockedFile, lockFile, lockName } from "./temporary.ts";
import { targetOf } from "./target.ts";

/**
 * A file that records are appended to. Its lock keeps a second run from appending; the system
 * releases it when the process ends, however it ends. A second lock beside it notes the holder, for
 * the message that the other run gets. A file that was created here and got no record is removed at
 * the end.
 */
export class AppendedFile implements AsyncDisposable {
  readonly #locked: LockedFile;
  #size: number;
  /** The note of a new file, while it is empty. */
  #newNote: Disposable | undefined;
  readonly #holder: AsyncDisposable;

  private constructor(
    readonly path: string,
    parts: { locked: LockedFile; holder: AsyncDisposable; size: number; newNote: Disposable | undefined },
  ) {
    this.#locked = parts.locked;
    this.#holder = parts.holder;
    this.#size = parts.size;
    this.#newNote = parts.newNote;
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
    if (locked === undefined) throw await heldError(path, place);
    await using unlessOpened = new AsyncDisposableStack();
    unlessOpened.use(locked);
    const holder = unlessOpened.use(await holdNote(place));

    const content = await naming<Uint8Array<ArrayBuffer>>(path, () => Deno.readFile(place));
    const size = recognize(content);
    if (size < content.byteLength) await naming(path, () => disk.truncate(locked.file, path, size));
    const newNote = old === undefined && size === 0 ? noteTemporary(place) : undefined;
    unlessOpened.move();
    return new AppendedFile(path, { locked, holder, size, newNote });
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
    await this.#holder[Symbol.asyncDispose]();
    this.#locked[Symbol.dispose]();
  }
}

/**
 * Notes beside `place` that this process holds it, until the result is disposed of. A note that
 * cannot be written is left out: the file's own lock does not depend on it.
 */
async function holdNote(place: string): Promise<AsyncDisposable> {
  const name = await lockName(place);
  const lock = await lockFile(name).catch(() => undefined);
  if (lock === undefined) return { [Symbol.asyncDispose]: () => Promise.resolve() };
  const temporary = noteTemporary(name);
  await noteHolder(lock).catch(() => {});
  return {
    async [Symbol.asyncDispose]() {
      await discard(name);
      lock[Symbol.dispose]();
      temporary[Symbol.dispose]();
    },
  };
}

/** The error for a file that another run appends to: who it is, and what to do. */
async function heldError(path: string, place: string): Promise<OutputError> {
  const holder = await holderAt(await lockName(place));
  const info = await infoAt(place).catch(() => undefined);
  const last = info && info.size > 0 ? info.mtime?.toISOString() : undefined;
  const who = [...holder ? [holderText(holder)] : [], ...last ? [`last record at ${last}`] : []].join("; ");
  const end = holder === undefined ? "end it" : `end it (kill ${holder.pid}${holder.host ? ` on ${holder.host}` : ""})`;
  return new OutputError(
    `Cannot append to ${path} as another run is appending to it${who ? ` (${who})` : ""}: ` +
      `wait for it, ${end}, or write to another file`,
    { path },
  );
}
