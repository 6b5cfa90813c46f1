/**
 * Files that flags name: read with messages that name the flag, and written without replacing
 * others unless --overwrite says so.
 *
 * @module
 */
import { repairFolder } from "../pipeline/output/folder.ts";
import { ignoreAbsent, infoAt, isFile, realPlace } from "../pipeline/output/paths.ts";
import { checkOutput, checkOutputFolder } from "../pipeline/output/target.ts";
import { isTemporaryName } from "../pipeline/output/temporary.ts";
import { ArgumentError } from "./argument_error.ts";
import type { Flags } from "./flag_types.ts";
import { inputBytes } from "./input_bytes.ts";
import { isAddress } from "./model_hash.ts";

/** A file that a flag names cannot be read, or does not hold what it should. */
export class InputError extends Error {
  override name = "InputError";
  /** The file. */
  readonly path: string;

  constructor(message: string, details: { path: string; cause?: unknown }) {
    super(message, { cause: details.cause });
    this.path = details.path;
  }
}

/** The flag of commands that write files. */
export const overwriteFlag = {
  kind: "switch",
  group: "Output",
  help: "replace files that exist; without it, pictures get free, numbered names and other files are refused",
} as const satisfies Flags[string];

/**
 * The text of a file that a flag names; `-` is standard input.
 *
 * @throws {InputError} where it cannot be read or is not UTF-8
 */
export async function readTextOf(path: string, flag: string): Promise<string> {
  const bytes = await bytesOf(path, flag);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw unreadable(path, flag, "it is not a text in UTF-8", cause);
  }
}

/**
 * The bytes of a file that a flag names; `-` is standard input.
 *
 * @throws {InputError} where it cannot be read
 */
export async function bytesOf(path: string, flag: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await inputBytes(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) throw cause;
    throw unreadable(path, flag, reasonOf(cause), cause);
  }
}

/** Why the system refuses a path, without Deno's additions. */
export function reasonOf(cause: unknown): string {
  if (cause instanceof Deno.errors.NotFound) return "there is no such file";
  if (cause instanceof Deno.errors.IsADirectory) return "it is a folder";
  if (cause instanceof Deno.errors.PermissionDenied) return "the system does not allow it";
  const message = cause instanceof Error ? cause.message : String(cause);
  return /is a directory/i.test(message) ? "it is a folder" : message.replace(/ \(os error \d+\).*$/s, "");
}

function unreadable(path: string, flag: string, why: string, cause: unknown): InputError {
  return new InputError(`Cannot read ${flag} ${JSON.stringify(path)} as ${why}`, { path, cause });
}

/** Whether a file or folder of this name exists. */
export async function exists(path: string): Promise<boolean> {
  return path !== "" && await Deno.lstat(path).catch(ignoreAbsent) !== undefined;
}

/**
 * Refuses two flags that name one file to write, since the second would replace the first.
 *
 * @throws {ArgumentError} where two are the same
 */
export async function checkDistinct(outputs: Readonly<Record<string, string | undefined>>): Promise<void> {
  const flags = new Map<string, string>();
  for (const [flag, path] of Object.entries(outputs)) {
    if (path === undefined || path === "-") continue;
    const place = await realPlace(path);
    const other = flags.get(place);
    if (other !== undefined) {
      throw new ArgumentError(
        `Cannot write ${other} and ${flag} to one file, ${JSON.stringify(path)}: give each a name of its own`,
        { argument: flag },
      );
    }
    flags.set(place, flag);
  }
}

/** A path, and the flag that names it. */
export interface NamedPath {
  readonly flag: string;
  readonly path: string;
}

/**
 * Refuses to write to a file that the same command reads, since what it was made from would be
 * lost. Writing beside it is fine, and so are other names that hard links give it: a file is
 * replaced, not changed.
 *
 * @throws {ArgumentError} where two are the same, through symbolic links too
 */
export async function checkNotRead({ written, read }: { written: NamedPath[]; read: NamedPath[] }): Promise<void> {
  const sources = new Map<string, string>();
  for (const { flag, path } of written.length > 0 ? read : []) {
    if (path === "" || path === "-" || isAddress(path)) continue;
    const unweighted = path.replace(/:[^:/\\]*$/, "");
    const file = unweighted !== "" && await isFile(unweighted) ? unweighted : path;
    if (await isFile(file)) sources.set(await realPlace(file), flag);
  }
  for (const { flag, path } of sources.size > 0 ? written : []) {
    const source = path === "" ? undefined : sources.get(await realPlace(path));
    if (source === undefined) continue;
    throw new ArgumentError(
      `Cannot write ${flag} to ${JSON.stringify(path)} as ${source} is read from it: choose another name`,
      { argument: flag },
    );
  }
}

/**
 * Refuses a folder that holds something or that cannot be written, before any work is done. `flag`
 * names it.
 *
 * @throws {ArgumentError} where it holds something and may not be replaced
 * @throws {OutputError} where it cannot be written
 */
export async function checkNewFolder(
  path: string | undefined,
  flag: string,
  { overwrite }: { overwrite: boolean },
): Promise<void> {
  if (path === undefined) return;
  await repairFolder(path);
  await checkOutputFolder(path);
  if (overwrite || !await exists(path)) return;
  for await (const { name } of Deno.readDir(path)) {
    if (isTemporaryName(name)) continue;
    throw new ArgumentError(
      `Cannot write ${flag} ${JSON.stringify(path)} as it holds files: choose another folder, or add --overwrite`,
      { argument: flag },
    );
  }
}

/** Whether something is lost by writing a file: there is one, and it is not empty. */
async function isTaken(path: string): Promise<boolean> {
  const info = await infoAt(path);
  return info !== undefined && info.isFile && info.size > 0;
}

/**
 * Refuses a file that exists or that cannot be written, before any work is done, and creates its
 * folder. `flag` names it.
 *
 * @throws {ArgumentError} where it exists and may not be replaced
 * @throws {OutputError} where it cannot be written
 */
export async function checkNewFile(
  path: string | undefined,
  flag: string,
  { overwrite }: { overwrite: boolean },
): Promise<void> {
  if (path === undefined) return;
  if (path === "-") {
    throw new ArgumentError(
      `Cannot write ${flag} to standard output, which - stands for: name a file, or ./- for one of that name`,
      { argument: flag },
    );
  }
  if (overwrite || !await isTaken(path)) return await checkOutput(path);
  throw new ArgumentError(
    `Cannot write ${flag} ${JSON.stringify(path)} as it exists: choose another name, or add --overwrite`,
    { argument: flag },
  );
}
