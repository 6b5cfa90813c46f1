/**
 * Atomic writes of files and folders (Deno only): they appear complete or not at all.
 *
 * @module
 */

import { CheckpointError } from "../errors.ts";
import { type ByteSink, type TensorEntry, writeSafetensors } from "./safetensors/writer.ts";

/**
 * Writes a temporary file beside the target, flushes it and renames it, so that readers see the old
 * file or the new one. A failure removes the temporary file.
 *
 * @throws What `write` throws, and Deno's errors where the folder cannot be written.
 */
export async function writeFileAtomically(path: string, write: (sink: ByteSink) => Promise<unknown>): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    {
      using file = await Deno.open(temporary, { write: true, createNew: true });
      await write(async (chunk) => {
        for (let done = 0; done < chunk.byteLength;) done += await file.write(chunk.subarray(done));
      });
      await file.syncData();
    }
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

/** Writes text as `writeFileAtomically()` does. */
export async function saveText(path: string, text: string): Promise<void> {
  await writeFileAtomically(path, async (sink) => await sink(new TextEncoder().encode(text)));
}

/**
 * Writes a safetensors file as `writeFileAtomically()` does.
 *
 * @throws {SafetensorsError} as `writeSafetensors()` does.
 */
export async function saveSafetensors(
  path: string,
  entries: readonly TensorEntry[],
  options: { metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  await writeFileAtomically(path, (sink) => writeSafetensors(entries, sink, options));
}

/** A folder that is being written: files by their paths in it. */
export interface FolderWriter {
  write(path: string, write: (sink: ByteSink) => Promise<unknown>): Promise<void>;
  writeText(path: string, text: string): Promise<void>;
}

/**
 * Writes a folder beside its final place and moves it there once all of it is on the disk (Deno
 * only). A failure leaves what was there before. A folder that holds something is refused, unless
 * `overwrite` says that its parts of the same names are to be replaced.
 *
 * @throws {CheckpointError} if the place is taken
 * @throws What `write` throws, and Deno's errors where the folder cannot be written.
 */
export async function writeFolderAtomically(
  directory: string,
  options: { overwrite?: boolean },
  write: (folder: FolderWriter) => Promise<void>,
): Promise<void> {
  const target = directory.replace(/(?<=[^/])\/+$/, "");
  const taken = await namesIn(target);
  if (taken.length > 0 && !(options.overwrite ?? false)) {
    throw new CheckpointError(
      `Cannot save to ${target} as it holds ${taken.length} files and folders: choose another place, or overwrite`,
      { source: target },
    );
  }
  const stage = `${target}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    await Deno.mkdir(stage, { recursive: true });
    await write({
      async write(path, write) {
        const folder = path.split("/").slice(0, -1).join("/");
        await Deno.mkdir(`${stage}/${folder}`, { recursive: true });
        await writeFileAtomically(`${stage}/${path}`, write);
      },
      async writeText(path, text) {
        await this.write(path, async (sink) => await sink(new TextEncoder().encode(text)));
      },
    });
    if (taken.length > 0) return await replaceParts(stage, target);
    await Deno.remove(target).catch(() => {}); // an empty folder
    await Deno.rename(stage, target);
  } finally {
    await Deno.remove(stage, { recursive: true }).catch(() => {});
  }
}

/**
 * Moves the content of `stage` into `target`. Replaced parts are kept aside until all moves have
 * succeeded, and are restored if one fails.
 */
async function replaceParts(stage: string, target: string): Promise<void> {
  const aside = `${stage.replace(/\.tmp$/, "")}.old`;
  await Deno.mkdir(aside);
  const undo: [from: string, to: string][] = [];
  const move = async (from: string, to: string): Promise<void> => {
    await Deno.rename(from, to);
    undo.unshift([to, from]);
  };
  try {
    const old = await namesIn(target);
    for (const name of await namesIn(stage)) {
      if (old.includes(name)) await move(`${target}/${name}`, `${aside}/${name}`);
      await move(`${stage}/${name}`, `${target}/${name}`);
    }
  } catch (error) {
    for (const [from, to] of undo) await Deno.rename(from, to);
    throw error;
  } finally {
    if ((await namesIn(target)).length > 0) await Deno.remove(aside, { recursive: true });
  }
}

async function namesIn(directory: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(directory)) names.push(name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names;
}

/**
 * Whether `path` is `place`, or lies in it, by their real names on the disk; places that do not
 * exist hold nothing.
 */
export async function liesIn(path: string, place: string): Promise<boolean> {
  const real = (name: string): Promise<string | undefined> => Deno.realPath(name).catch(() => undefined);
  const [inner, outer] = [await real(path), await real(place)];
  return inner !== undefined && outer !== undefined && (inner === outer || inner.startsWith(`${outer}/`));
}
