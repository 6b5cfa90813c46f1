/**
 * Folders of byte sources, addressed by relative paths. All loading goes through
 * {@linkcode FileTree}, so it works alike on a disk, on a hub snapshot and in a browser.
 *
 * @module
 */

import { CheckpointError, PathError } from "../../errors.ts";
import { blobSource, type ByteSource, bytesSource, cannotOpen, hasMembers, readAll } from "./byte_source.ts";
import { foreignText } from "./foreign_file.ts";
import { parsePythonJson } from "./json.ts";

/** A read-only folder of files, addressed by relative paths with `/` between their parts. */
export interface FileTree {
  /** Path or id of the folder, for messages. */
  readonly name: string;
  /** Whether a file exists at the path. @throws {PathError} if the path leaves the folder */
  has(path: string): Promise<boolean>;
  /** Opens a file for reading in ranges. @throws {CheckpointError} if there is none. */
  open(path: string): Promise<ByteSource>;
  /** The file as UTF-8 text. @throws {CheckpointError} if there is none. */
  readText(path: string): Promise<string>;
  /**
   * The file as JSON, as Python writes it. @throws {CheckpointError} if there is none, or it is not
   * JSON.
   */
  readJson(path: string): Promise<unknown>;
  /**
   * The names of the files and folders directly inside `path` (default: the root), sorted; folders
   * end with `/`.
   */
  list(path?: string): Promise<string[]>;
  /** The folder `path` as a tree of its own. */
  subtree(path: string): FileTree;
}

/** Whether a value is a file tree, as far as its members tell. */
export function isFileTree(value: unknown): value is FileTree {
  return hasMembers(value, "subtree", "readJson", "open");
}

/**
 * A folder of byte arrays or Blobs, keyed by path: `{ "unet/config.json": bytes, … }`.
 *
 * @throws {PathError} if a key is not a relative path inside the folder.
 */
export function memoryTree(files: Readonly<Record<string, Uint8Array | Blob>>, name: string): FileTree {
  const byPath = new Map(Object.entries(files).map(([path, file]) => [checkPath(path, name), file]));
  return fileTree({
    name,
    has: (path) => Promise.resolve(byPath.has(path)),
    open(path) {
      const file = byPath.get(path);
      const fullName = `${name}/${path}`;
      if (file === undefined) return Promise.reject(cannotOpen(fullName));
      return Promise.resolve(file instanceof Blob ? blobSource(file, fullName) : bytesSource(file, fullName));
    },
    list: (path) => Promise.resolve(childrenOf(path, byPath.keys())),
  });
}

/**
 * Lists the direct children of a folder ("" for the root), given the paths of all files. Sorted;
 * folders end with `/`.
 */
export function childrenOf(folder: string, paths: Iterable<string>): string[] {
  const prefix = folder === "" ? "" : `${folder}/`;
  const names = new Set<string>();
  for (const path of paths) {
    if (!path.startsWith(prefix)) continue;
    const [first, ...rest] = path.slice(prefix.length).split("/");
    names.add(rest.length > 0 ? `${first}/` : first);
  }
  return [...names].sort();
}

/**
 * Checks that a path stays inside its folder, and returns it without `.` parts.
 *
 * @param owner The folder, or the file that named the path, for the message.
 * @throws {PathError} for absolute paths, drive letters, backslashes, `..`, control characters and
 *   empty paths.
 */
export function checkPath(path: string, owner: string): string {
  const parts = path.split("/").filter((part) => part !== ".");
  // deno-lint-ignore no-control-regex
  const isUnsafe = /[\\\u0000-\u001f]|^[A-Za-z]:/.test(path);
  if (isUnsafe || parts.length === 0 || parts.some((part) => part === "" || part === "..")) {
    throw new PathError(
      `Cannot follow the path ${
        JSON.stringify(path)
      } in ${owner} as paths must be relative and stay inside their folder`,
      { source: owner, path },
    );
  }
  return parts.join("/");
}

/** The largest configuration or vocabulary that is read. */
const maxTextBytes = 100_000_000;

/**
 * Builds a tree from the three operations in which trees differ. They receive checked paths only.
 */
export function fileTree(base: {
  name: string;
  has(path: string): Promise<boolean>;
  open(path: string): Promise<ByteSource>;
  list(path: string): Promise<string[]>;
}): FileTree {
  const check = (path: string): string => checkPath(path, base.name);
  const tree: FileTree = {
    name: base.name,
    has: async (path) => await base.has(check(path)),
    open: async (path) => await base.open(check(path)),
    list: async (path) => await base.list(path === undefined ? "" : check(path)),
    async readText(path) {
      const source = await tree.open(path);
      try {
        if (source.size > maxTextBytes) {
          throw new CheckpointError(
            `Cannot read ${source.name} as it has ${source.size} bytes and a text file may have ${maxTextBytes}`,
            { source: source.name },
          );
        }
        return new TextDecoder("utf-8", { fatal: true }).decode(await readAll(source));
      } catch (cause) {
        if (cause instanceof CheckpointError) throw cause;
        throw new CheckpointError(`Cannot read ${source.name} as it must be UTF-8 text`, {
          source: source.name,
          cause,
        });
      } finally {
        source.close?.();
      }
    },
    async readJson(path) {
      const text = await tree.readText(path);
      try {
        return parsePythonJson(text);
      } catch (cause) {
        const source = `${base.name}/${path}`;
        const reason = foreignText(text) ?? (cause as Error).message;
        throw new CheckpointError(`Cannot read ${source} as it must be JSON: ${reason}`, {
          source,
          cause,
        });
      }
    },
    subtree(path) {
      const folder = check(path);
      return fileTree({
        name: `${base.name}/${folder}`,
        has: (inner) => base.has(`${folder}/${inner}`),
        open: (inner) => base.open(`${folder}/${inner}`),
        list: (inner) => base.list(inner === "" ? folder : `${folder}/${inner}`),
      });
    },
  };
  return tree;
}
