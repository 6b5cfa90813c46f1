/**
 * The operations that change a disk. Every file and folder that this project writes goes through
 * these, so that one place can stop them (see {@linkcode stopWriting}) and that tests can interrupt
 * each of them (see {@linkcode beforeChange}).
 *
 * @module
 */

/** An operation that changes the disk. */
export type DiskChange = "create" | "write" | "sync" | "rename" | "remove" | "mkdir" | "link" | "truncate" | "chmod";

/**
 * Called before each operation, for tests: it may throw in the operation's place, or end the
 * process.
 */
export const beforeChange: { hook?: (change: DiskChange, path: string) => void } = {};

let stopped: unknown = undefined;

/**
 * Makes all further operations fail with `reason`, except those of cleaning up; `undefined` allows
 * them again.
 */
export function stopWriting(reason: unknown): void {
  stopped = reason;
}

/** @throws the reason of {@linkcode stopWriting}, if writing has been stopped */
export function throwIfStopped(): void {
  if (stopped !== undefined) throw stopped;
}

function change(kind: DiskChange, path: string): void {
  beforeChange.hook?.(kind, path);
}

/** As {@linkcode change}, for operations that stop with {@linkcode stopWriting}. */
function newChange(kind: DiskChange, path: string): void {
  throwIfStopped();
  change(kind, path);
}

/** The operations. They throw what Deno throws. */
export const disk = {
  /** Creates a file that does not exist yet. */
  async create(path: string): Promise<Deno.FsFile> {
    newChange("create", path);
    return await Deno.open(path, { write: true, createNew: true });
  },
  /** Opens a file for reading and writing, and creates it if there is none. */
  async open(path: string): Promise<Deno.FsFile> {
    newChange("create", path);
    return await Deno.open(path, { read: true, write: true, create: true });
  },
  /** Writes a whole chunk at the file's position. */
  async write(file: Deno.FsFile, path: string, chunk: Uint8Array): Promise<void> {
    newChange("write", path);
    for (let done = 0; done < chunk.byteLength;) done += await file.write(chunk.subarray(done));
  },
  /** Waits until what was written to the file is on the disk. */
  async sync(file: Deno.FsFile, path: string): Promise<void> {
    newChange("sync", path);
    await file.syncData();
  },
  async truncate(file: Deno.FsFile, path: string, size: number): Promise<void> {
    change("truncate", path);
    await file.truncate(size);
  },
  /** Gives a file or folder the owner and permissions of another, where the system allows it. */
  async adopt(path: string, { mode, uid, gid }: Deno.FileInfo): Promise<void> {
    newChange("chmod", path);
    if (Deno.build.os === "windows") return;
    const own = await Deno.stat(path);
    if (uid !== own.uid || gid !== own.gid) await Deno.chown(path, uid, gid).catch(() => {});
    // Some file systems have no permissions; a change of owner takes special bits away.
    if (mode !== null) await Deno.chmod(path, mode & 0o7777).catch(() => {});
  },
  async rename(from: string, to: string): Promise<void> {
    change("rename", to);
    await Deno.rename(from, to);
  },
  /** As `rename`, but fails where there is a file already. */
  async renameNew(from: string, to: string): Promise<void> {
    change("rename", to);
    try {
      await Deno.link(from, to);
      await Deno.remove(from).catch(() => {});
    } catch (error) {
      if (error instanceof Deno.errors.AlreadyExists) throw error;
      // a file system without links
      if (await Deno.lstat(to).then(() => true, () => false)) throw new Deno.errors.AlreadyExists(to);
      await Deno.rename(from, to);
    }
  },
  async remove(path: string, options: { recursive?: boolean } = {}): Promise<void> {
    change("remove", path);
    await Deno.remove(path, options);
  },
  /** Creates a folder with those above it. */
  async mkdir(path: string): Promise<void> {
    newChange("mkdir", path);
    await Deno.mkdir(path, { recursive: true });
  },
  async symlink(target: string, path: string): Promise<void> {
    newChange("link", path);
    await Deno.symlink(target, path);
  },
  /** Gives a file a second name, or copies it where the file system has no links. */
  async linkOrCopy(from: string, to: string): Promise<void> {
    newChange("link", to);
    await Deno.link(from, to).catch(() => Deno.copyFile(from, to));
  },
};
