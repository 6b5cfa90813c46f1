/**
 * Parts of paths on disk, and places behind symbolic links.
 *
 * @module
 */

/** The folder that holds `path`; "." for a bare name. */
export function parentOf(path: string): string {
  const trimmed = withoutSlashes(path);
  const end = Math.max(trimmed.lastIndexOf("/"), isWindows() ? trimmed.lastIndexOf("\\") : -1);
  if (end < 0) return ".";
  return end === 0 ? "/" : trimmed.slice(0, end);
}

/** The last part of `path`. */
export function nameOf(path: string): string {
  return withoutSlashes(path).split(isWindows() ? /[/\\]/ : "/").at(-1)!;
}

/** `path` without slashes at its end; "/" stays. */
export function withoutSlashes(path: string): string {
  return path.replace(/(?<=[^/])\/+$/, "");
}

function isWindows(): boolean {
  return Deno.build.os === "windows";
}

/** The symbolic links that a path may lead through, as on Linux. */
const mostLinks = 40;

/**
 * The path that writing to `path` reaches: symbolic links are followed, also those whose target
 * does not exist yet.
 */
export async function followLinks(path: string): Promise<string> {
  let place = path;
  for (let links = 0; links <= mostLinks; links++) {
    const info = await Deno.lstat(place).catch(ignoreMissing);
    if (!info?.isSymlink) return place;
    const target = await Deno.readLink(place);
    place = /^([/\\]|[A-Za-z]:)/.test(target) ? target : `${parentOf(place)}/${target}`;
  }
  throw Object.assign(new Error(`too many symbolic links: ${path}`), { code: "ELOOP" });
}

/**
 * The real path of a place that may not exist yet: the real path of the nearest folder above it
 * that exists, and the rest.
 */
export async function realPlace(path: string): Promise<string> {
  const trimmed = withoutSlashes(path);
  const place = await followLinks(trimmed).catch(() => trimmed); // a file stands for a folder, or a circle
  try {
    return await Deno.realPath(place);
  } catch {
    const parent = parentOf(place);
    if (parent === place) return place;
    const above = await realPlace(parent);
    return nameOf(place) === ".." ? parentOf(above) : `${above === "/" ? "" : above}/${nameOf(place)}`;
  }
}

/**
 * Whether `path` is `place`, or lies in it, by their real names on the disk, whether they exist or
 * not.
 */
export async function liesIn(path: string, place: string): Promise<boolean> {
  const [inner, outer] = [await realPlace(path), await realPlace(place)];
  return inner === outer || inner.startsWith(outer === "/" ? "/" : `${outer}/`);
}

/** For `catch`: `undefined` where there is no such file. */
export function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

/** Codes of the system for paths at which nothing is or can be. */
const absentCodes = ["ENOENT", "ENOTDIR", "ENAMETOOLONG", "ELOOP", "EINVAL"];

/**
 * For `catch`: `undefined` where nothing is or can be at a path that is read. What may not be
 * looked at may be there, so that such an error is rethrown.
 */
export function ignoreAbsent(error: unknown): undefined {
  const { name, code } = error as Error & { code?: unknown };
  if (name === "NotFound" || name === "NotADirectory" || name === "FilesystemLoop") return;
  if (typeof code === "string" && absentCodes.includes(code)) return;
  if (error instanceof TypeError) return; // a path with a zero character
  throw error;
}

/**
 * What is at `path`, behind symbolic links; `undefined` where there is nothing.
 *
 * @throws Deno's error where looking is not permitted, since there may be something
 */
export async function infoAt(path: string): Promise<Deno.FileInfo | undefined> {
  return path === "" ? undefined : await Deno.stat(path).catch(ignoreAbsent);
}

/** Whether anything is at `path`, behind symbolic links. Throws as {@linkcode infoAt}. */
export async function exists(path: string): Promise<boolean> {
  return await infoAt(path) !== undefined;
}

/** Whether a file is at `path`. Throws as {@linkcode infoAt}. */
export async function isFile(path: string): Promise<boolean> {
  return (await infoAt(path))?.isFile ?? false;
}

/**
 * The text of a small file; `undefined` where there is no regular file: a pipe would be waited for.
 * Throws as {@linkcode infoAt}.
 */
export async function textAt(path: string): Promise<string | undefined> {
  return await isFile(path) ? await Deno.readTextFile(path).catch(ignoreAbsent) : undefined;
}

/**
 * The files in a folder and in the folders directly in it; none where it is missing. Throws as
 * {@linkcode infoAt}.
 */
export async function filesBelow(folder: string, depth = 1): Promise<string[]> {
  const files: string[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      const path = `${folder}/${name}`;
      if (!isDirectory) files.push(path);
      else if (depth > 0) { for (const file of await filesBelow(path, depth - 1)) files.push(file); }
    }
  } catch (error) {
    ignoreAbsent(error);
  }
  return files;
}
