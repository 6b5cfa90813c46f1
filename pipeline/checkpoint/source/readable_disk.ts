/** Reading a disk, in Deno and in Node. Errors have Deno's names in both. @module */

/** What is at a path. */
export interface PathInfo {
  readonly isFile: boolean;
  readonly isDirectory: boolean;
}

/** An open file. */
export interface OpenFile {
  /** In bytes. */
  readonly size: number;
  /** Reads into `room` from a position; `null` at the end of the file. One call at a time. */
  read(room: Uint8Array, position: number): Promise<number | null>;
  close(): void;
}

/** A disk that is read. */
export interface ReadableDisk {
  /** What is at `path`, behind symbolic links. */
  stat(path: string): Promise<PathInfo>;
  open(path: string): Promise<OpenFile>;
  /** What lies directly in a folder. */
  list(folder: string): Promise<readonly { name: string; isDirectory: boolean; isSymlink: boolean }[]>;
}

/** The disk of the runtime; `undefined` in a browser. */
export function readableDisk(): ReadableDisk | undefined {
  if (typeof Deno !== "undefined") return denoDisk;
  const { process } = globalThis as { process?: { getBuiltinModule?(name: string): unknown } };
  // Without an import statement, so that the library loads in browsers as one file.
  const files = process?.getBuiltinModule?.("fs/promises") as NodeFiles | undefined;
  return files && nodeDisk(files);
}

const denoDisk: ReadableDisk = {
  stat: (path) => Deno.stat(path),
  async open(path) {
    const file = await Deno.open(path, { read: true });
    return {
      size: (await file.stat()).size,
      async read(room, position) {
        await file.seek(position, Deno.SeekMode.Start);
        return await file.read(room);
      },
      close: () => file.close(),
    };
  },
  list: (folder) => Array.fromAsync(Deno.readDir(folder)),
};

/** The part of Node's `fs/promises` that is used. */
interface NodeFiles {
  stat(path: string): Promise<NodeInfo>;
  open(path: string): Promise<{
    stat(): Promise<NodeInfo & { readonly size: number }>;
    read(room: Uint8Array, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
    close(): Promise<void>;
  }>;
  readdir(
    folder: string,
    options: { withFileTypes: true },
  ): Promise<readonly (NodeInfo & { readonly name: string; isSymbolicLink(): boolean })[]>;
}

interface NodeInfo {
  isFile(): boolean;
  isDirectory(): boolean;
}

function nodeDisk(files: NodeFiles): ReadableDisk {
  return {
    async stat(path) {
      const info = await files.stat(path).catch(rethrowAsDeno);
      return { isFile: info.isFile(), isDirectory: info.isDirectory() };
    },
    async open(path) {
      const file = await files.open(path).catch(rethrowAsDeno);
      return {
        size: (await file.stat()).size,
        async read(room, position) {
          return (await file.read(room, 0, room.length, position)).bytesRead || null;
        },
        close: () => void file.close(),
      };
    },
    async list(folder) {
      const entries = await files.readdir(folder, { withFileTypes: true }).catch(rethrowAsDeno);
      return entries.map((entry) => ({
        name: entry.name,
        isDirectory: entry.isDirectory(),
        isSymlink: entry.isSymbolicLink(),
      }));
    },
  };
}

/** Deno's names for the errors that Node tells by their codes. */
const denoNames: Readonly<Record<string, string>> = {
  ENOENT: "NotFound",
  ENOTDIR: "NotADirectory",
  EACCES: "PermissionDenied",
  EPERM: "PermissionDenied",
  ELOOP: "FilesystemLoop",
};

function rethrowAsDeno(error: Error & { code?: string }): never {
  const name = denoNames[error.code ?? ""];
  throw name === undefined ? error : Object.assign(new Error(error.message, { cause: error }), {
    name,
    code: error.code,
  });
}
