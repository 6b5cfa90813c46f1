/**
 * Writes of whole folders: they appear complete or not at all (Deno only).
 *
 * A folder is written beside its place, in a temporary:
 *
 *     .bluerose-PID-RANDOM.tmp/lock      held while its writer lives
 *     .bluerose-PID-RANDOM.tmp/target    the name of the folder to replace
 *     .bluerose-PID-RANDOM.tmp/new       what is being written
 *     .bluerose-PID-RANDOM.tmp/old       the former folder, from the first rename on
 *
 * Two renames put it into place: target → old, new → target. A run that dies before the second
 * leaves the target missing. The next load or save of that folder puts `old` back.
 *
 * @module
 */

import { advise } from "../advice.ts";
import { CheckpointError, OutputError } from "../errors.ts";
import type { ByteSink } from "./byte_sink.ts";
import { disk } from "./disk.ts";
import { holderAt, holderText, noteHolder } from "./holder.ts";
import { naming } from "./output_error.ts";
import { exists, followLinks, ignoreMissing, nameOf, parentOf, textAt, withoutSlashes } from "./paths.ts";
import { commit, noteTemporary } from "./pending.ts";
import { checkReplaceable, requireDisk } from "./target.ts";
import {
  createTemporary,
  discard,
  isTemporaryName,
  type LockedFile,
  lockFile,
  lockName,
  removeStray,
  removeStrays,
  straysIn,
} from "./temporary.ts";

/** A folder that is being written: files by their paths in it. */
export interface FolderWriter {
  write(path: string, write: (sink: ByteSink) => Promise<unknown>): Promise<void>;
  writeText(path: string, text: string): Promise<void>;
}

/**
 * Writes a folder beside its final place and moves it there once all of it is on the disk. A
 * failure, or the end of the process at any moment, leaves what was there before or all of the new.
 * A folder that holds something is refused, unless `overwrite` says that its parts of the same
 * names are to be replaced; its other parts are kept.
 *
 * @throws {CheckpointError} if the place is taken
 * @throws {OutputError} if another run is saving to it, or the operating system rejects a write
 * @throws What `write` throws.
 */
export async function writeFolderAtomically(
  directory: string,
  options: { overwrite?: boolean },
  write: (folder: FolderWriter) => Promise<void>,
): Promise<void> {
  requireDisk(directory);
  if (directory === "") {
    throw new OutputError("Cannot write a folder without a name: give its path", { path: directory });
  }
  const target = await naming(directory, async () => {
    const place = await followLinks(withoutSlashes(directory));
    // "." and ".." have no name that can be replaced
    return await Deno.realPath(place).catch((error) => ignoreMissing(error) ?? place);
  });
  await naming(directory, () => checkReplaceable(directory, target));
  await naming(directory, () => disk.mkdir(parentOf(target)));
  using lock = await lockTarget(directory, target);
  using _lockNote = noteTemporary(lock.path);
  try {
    await removeStrays(parentOf(target));
    await repairFolder(target);
    const taken = (await namesIn(directory, target)).filter((name) => !isTemporaryName(name));
    if (taken.length > 0 && !(options.overwrite ?? false)) {
      throw new CheckpointError(
        `Cannot save to ${directory} as it holds ${taken.length} files and folders: ${advise("overwrite")}`,
        { source: directory },
      );
    }
    using temporary = await naming(directory, () => createTemporary(target, { folder: true }));
    const stage = parentOf(temporary.path);
    using _note = noteTemporary(stage);
    try {
      await naming(directory, () => disk.mkdir(`${stage}/new`));
      await writeSynced(
        `${stage}/target`,
        directory,
        async (sink) => await sink(new TextEncoder().encode(nameOf(target))),
      );
      await write(folderWriter(`${stage}/new`, directory));
      await naming(directory, () => keepOthers(target, `${stage}/new`));
      await commit(() => naming(directory, () => swap(stage, target)));
    } finally {
      temporary[Symbol.dispose]();
      await discard(stage);
    }
  } finally {
    await discard(lock.path);
  }
}

/**
 * Takes the lock for writing `target`, and notes who holds it. The system releases it when the
 * process ends, however it ends, so that a dead run never keeps others out.
 */
async function lockTarget(directory: string, target: string): Promise<LockedFile> {
  const name = await lockName(target);
  const lock = await naming(directory, () => lockFile(name));
  if (lock === undefined) {
    const holder = await holderAt(name);
    throw new OutputError(
      `Cannot save to ${directory} as another run${holder ? ` (${holderText(holder)})` : ""} is saving to it: ` +
        "wait for it, end it, or choose another place",
      { path: directory },
    );
  }
  try {
    await naming(directory, () => noteHolder(lock));
    return lock;
  } catch (error) {
    await discard(name);
    lock[Symbol.dispose]();
    throw error;
  }
}

function folderWriter(root: string, directory: string): FolderWriter {
  return {
    async write(path, write) {
      const file = `${root}/${path}`;
      await naming(`${directory}/${path}`, () => disk.mkdir(parentOf(file)));
      await writeSynced(file, `${directory}/${path}`, write);
    },
    async writeText(path, text) {
      await this.write(path, async (sink) => await sink(new TextEncoder().encode(text)));
    },
  };
}

/** Writes a file of the stage, which nobody reads yet. `name` is its name in errors. */
async function writeSynced(path: string, name: string, write: (sink: ByteSink) => Promise<unknown>): Promise<void> {
  using file = await naming(name, () => disk.create(path));
  await write((chunk) => naming(name, () => disk.write(file, name, chunk)));
  await naming(name, () => disk.sync(file, name));
}

/** Gives what only the old folder holds to the new one. */
async function keepOthers(old: string, made: string): Promise<void> {
  const names = (await namesIn(old, old)).filter((name) => !isTemporaryName(name));
  for (const name of names) {
    if (await Deno.lstat(`${made}/${name}`).catch(ignoreMissing) === undefined) {
      await share(`${old}/${name}`, `${made}/${name}`);
    }
  }
}

/** Makes a second copy of a file or folder, by links where the file system has them. */
async function share(from: string, to: string): Promise<void> {
  const info = await Deno.lstat(from);
  if (info.isSymlink) return await disk.symlink(await Deno.readLink(from), to);
  if (!info.isDirectory) return await disk.linkOrCopy(from, to);
  await disk.mkdir(to);
  for await (const { name } of Deno.readDir(from)) await share(`${from}/${name}`, `${to}/${name}`);
}

/** The two renames. An error of the second takes the first back. */
async function swap(stage: string, target: string): Promise<void> {
  const info = await Deno.lstat(target).catch(ignoreMissing);
  if (info === undefined) return await disk.rename(`${stage}/new`, target);
  await disk.adopt(`${stage}/new`, info);
  await disk.rename(target, `${stage}/old`);
  try {
    await disk.rename(`${stage}/new`, target);
  } catch (error) {
    await disk.rename(`${stage}/old`, target);
    throw error;
  }
}

async function namesIn(directory: string, target: string): Promise<string[]> {
  const names: string[] = [];
  await naming(directory, async () => {
    try {
      for await (const { name } of Deno.readDir(target)) names.push(name);
    } catch (error) {
      ignoreMissing(error);
    }
  });
  return names;
}

/** How long a load waits for a save that is between its two renames. */
const patienceMs = 2000;

/**
 * Puts a folder back whose replacement was interrupted. Does nothing where the folder exists. Call
 * it before reading a folder that may have been saved by {@linkcode writeFolderAtomically}.
 */
export async function repairFolder(directory: string): Promise<void> {
  if (await exists(directory)) return;
  const target = await followLinks(withoutSlashes(directory)).catch(() => directory);
  const folder = parentOf(target);
  const end = performance.now() + patienceMs;
  do {
    let isBusy = false;
    for (const name of await straysIn(folder)) {
      const replaced = await textAt(`${folder}/${name}/target`).catch(() => undefined);
      if (replaced !== nameOf(target)) continue;
      const hasOld = await Deno.lstat(`${folder}/${name}/old`).then(() => true, () => false);
      if (!hasOld) continue;
      const { isAlive } = await naming(directory, () => removeStray(`${folder}/${name}`));
      isBusy ||= isAlive;
    }
    if (!isBusy) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  } while (!await exists(directory) && performance.now() < end);
}
