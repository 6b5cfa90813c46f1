/**
 * Errors of writing: one class for everything that keeps a file from being written.
 *
 * @module
 */

import { OutputError } from "../errors.ts";

/** What each error code of the system means for a path, and what to do about it. */
const meanings: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full: free some space, or write to another disk",
  EDQUOT: "the disk quota is used up: free some space, or write to another disk",
  EFBIG: "the file would be larger than the system allows: raise the limit, or write to another disk",
  EACCES: "permission is denied: allow writing to it and to its folder, or choose another place",
  EPERM: "the system does not permit it: allow writing to it and to its folder, or choose another place",
  EROFS: "the file system is read-only: choose another place",
  ENAMETOOLONG: "the name is too long: choose a shorter one",
  EISDIR: "it is a folder: name a file in it",
  ENOTDIR: "a part of its path is a file and not a folder: choose another place",
  EEXIST: "a file or folder of that name is in the way: choose another place",
  ENOTEMPTY: "another program has written there meanwhile: choose another place, or try again",
  ENOENT: "there is no such folder and none can be created: choose another place",
  ELOOP: "its symbolic links lead in a circle: choose another place",
  EMFILE: "too many files are open: close some, or raise the limit (ulimit -n)",
  ENFILE: "too many files are open on this machine: close some programs",
  EBUSY: "it is in use or a mount point: choose a folder inside it, or another place",
  ETXTBSY: "it is a program that runs: choose another place",
  EXDEV: "its folder spans two file systems: choose another place",
  EIO: "the disk reports an error: check the disk, or write to another one",
  EINVAL: "the system does not accept the name: choose another one",
};

/** The code by which the system names an error, if it is an error of the system. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = error as Error & { code?: unknown };
  return typeof code === "string" ? code : undefined;
}

/**
 * The error for a path that cannot be written, from what the system or the runtime threw. Errors
 * of other kinds are returned as they are.
 */
export function outputError(path: string, cause: unknown): unknown {
  if (cause instanceof OutputError || !(cause instanceof Error)) return cause;
  const code = systemCode(cause);
  if (cause.name === "NotCapable") {
    return new OutputError(
      `Cannot write ${path} as this program may not: ${cause.message.split("\n")[0]}`,
      { path, cause },
    );
  }
  if (cause.name === "AlreadyExists") {
    return new OutputError(`Cannot write ${path} as ${meanings.EEXIST}`, { path, cause });
  }
  const isSystems = code !== undefined && /^E[A-Z0-9]+$/.test(code);
  if (!isSystems && !/\(os error \d+\)/.test(cause.message)) return cause;
  const meaning = code === undefined ? undefined : meanings[code];
  return new OutputError(`Cannot write ${path} as ${meaning ?? cause.message}`, { path, cause });
}

/** Runs an operation on `path`. @throws {OutputError} when the operating system rejects it. */
export async function naming<T>(path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (cause) {
    throw outputError(path, cause);
  }
}
