/**
 * Temporary files and folders beside a target, and the removal of those that dead runs left.
 *
 * A temporary's name carries the process and a random part. Its writer holds a lock on it (flock)
 * that the system releases when the process ends, however it ends: a temporary that can be locked
 * has no writer any more. Process numbers alone would not do, since folders are shared between
 * containers and machines.
 *
 * @module
 */

import { disk } from "./disk.ts";
import { systemCode } from "./output_error.ts";
import { ignoreMissing, nameOf, parentOf, textAt } from "./paths.ts";

/** Names of temporaries and locks: `.bluerose-PID-RANDOM.tmp`, `.bluerose-HASH.lock`. */
const ours = /^\.bluerose-(\d+-[0-9a-f]{8}\.tmp|[0-9a-f]{16}\.lock)$/;

/** Where a file system has no locks, temporaries of this age count as abandoned. */
const abandonedMs = 24 * 3600 * 1000;

/** Links cannot be locked. They are renamed right after they are created. */
const abandonedLinkMs = 60 * 1000;

/** Whether a name is that of a temporary or lock of this project. */
export function isTemporaryName(name: string): boolean {
  return ours.test(name);
}

/** A new name for a temporary beside `target`. It does not depend on the target's length. */
export function temporaryName(target: string): string {
  return `${parentOf(target)}/.bluerose-${Deno.pid}-${crypto.randomUUID().slice(0, 8)}.tmp`;
}

/** A file that is open and locked. */
export interface LockedFile extends Disposable {
  readonly path: string;
  readonly file: Deno.FsFile;
}

/**
 * Creates and locks a temporary file.
 *
 * @param folder whether to make a folder, and the locked file in it
 * @returns the locked file; for a folder, `FOLDER/lock`
 */
export async function createTemporary(target: string, { folder = false } = {}): Promise<LockedFile> {
  for (;;) {
    const name = temporaryName(target);
    if (folder) await disk.mkdir(name);
    const path = folder ? `${name}/lock` : name;
    const file = await disk.create(path);
    // Another process that removes strays may come between creation and lock.
    if (await lock(file) && await isAt(file, path)) return lockedFile(path, file);
    file.close();
    await discard(name);
  }
}

/**
 * Locks the file at `path`, which is created if there is none.
 *
 * @returns `undefined` where another run holds it
 */
export async function lockFile(path: string): Promise<LockedFile | undefined> {
  for (;;) {
    const file = await disk.open(path);
    if (!await lock(file)) {
      file.close();
      return undefined;
    }
    if (await isAt(file, path)) return lockedFile(path, file);
    file.close(); // its last holder has removed it
  }
}

function lockedFile(path: string, file: Deno.FsFile): LockedFile {
  let isOpen = true;
  return {
    path,
    file,
    [Symbol.dispose]() {
      if (isOpen) file.close(); // releases the lock
      isOpen = false;
    },
  };
}

/** Whether the lock was free; also true on file systems without locks. */
async function lock(file: Deno.FsFile): Promise<boolean> {
  return await file.tryLock(true).catch(() => true);
}

/** Whether `path` still names the open file. */
async function isAt(file: Deno.FsFile, path: string): Promise<boolean> {
  const there = await Deno.stat(path).catch(ignoreMissing);
  return there !== undefined && there.ino === (await file.stat()).ino;
}

/** Removes a file or folder, and says nothing if it cannot be. */
export async function discard(path: string): Promise<void> {
  // A file that is created meanwhile makes the removal of its folder fail.
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      return await disk.remove(path, { recursive: true });
    } catch (error) {
      if (systemCode(error) !== "ENOTEMPTY") return;
    }
  }
}

/** The name of the lock for writing `target`, beside it. */
export async function lockName(target: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(nameOf(target)));
  return `${parentOf(target)}/.bluerose-${new Uint8Array(digest).toHex().slice(0, 16)}.lock`;
}

/** Folders that this process has cleaned. Its own failures clean up after themselves. */
const cleaned = new Set<string>();

/**
 * Removes the temporaries that dead runs have left in `folder`, once per process; a folder whose
 * replacement was interrupted is put back.
 */
export async function removeStrays(folder: string): Promise<void> {
  const key = await Deno.realPath(folder).catch(() => folder);
  if (cleaned.has(key)) return;
  cleaned.add(key);
  for (const name of await straysIn(folder)) await removeStray(`${folder}/${name}`);
}

/** The names of temporaries in a folder, of living and dead runs. */
export async function straysIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) if (isTemporaryName(name)) names.push(name);
  } catch {
    // what cannot be listed cannot be cleaned
  }
  return names;
}

/** Removes a temporary whose writer is dead. Returns whether its writer is alive. */
export async function removeStray(path: string): Promise<{ isAlive: boolean }> {
  const info = await Deno.lstat(path).catch(() => undefined);
  if (info === undefined) return { isAlive: false };
  const age = Date.now() - (info.mtime?.getTime() ?? Date.now());
  if (info.isSymlink) {
    if (age > abandonedLinkMs) await discard(path);
    return { isAlive: false };
  }
  let file: Deno.FsFile | undefined;
  try {
    const lockPath = info.isDirectory ? `${path}/lock` : path;
    // opening a pipe would wait for a writer
    if (!(await Deno.stat(lockPath)).isFile) return { isAlive: true };
    file = await Deno.open(lockPath, { read: true });
  } catch (error) {
    // a folder without a lock is one that its writer had just begun; what is denied is another's
    if (!(error instanceof Deno.errors.NotFound)) return { isAlive: true };
  }
  try {
    const isFree = file === undefined || await file.tryLock(true).catch(() => age > abandonedMs);
    if (!isFree) return { isAlive: true };
    if (info.isDirectory) await putBack(path);
    await discard(path);
    return { isAlive: false };
  } finally {
    file?.close();
  }
}

/**
 * Undoes a replacement that stopped half-way: `TEMPORARY/old` is the former content of the folder
 * that `TEMPORARY/target` names. It goes back if that folder is missing.
 */
async function putBack(temporary: string): Promise<void> {
  const name = await textAt(`${temporary}/target`).catch(() => undefined) ?? "";
  if (name === "" || nameOf(name) !== name || [".", ".."].includes(name)) return;
  const target = `${parentOf(temporary)}/${name}`;
  if (await Deno.lstat(target).catch(ignoreMissing) !== undefined) return;
  if (await Deno.lstat(`${temporary}/old`).catch(ignoreMissing) === undefined) return;
  await disk.rename(`${temporary}/old`, target);
}
