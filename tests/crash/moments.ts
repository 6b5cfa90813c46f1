/**
 * What a process that dies leaves on the disk, without starting one for each moment: the disk is
 * looked at before each change, which is the state that SIGKILL would leave there. A file in its
 * place is never written to again, so that each version of it is read once. `dieAt()` shows for
 * some commands that real deaths leave the same.
 *
 * @module
 */
import { beforeChange, type DiskChange } from "../../pipeline/output/disk.ts";
import { isTemporaryName } from "../../pipeline/output/temporary.ts";

/** The disk before one change. */
export interface Moment {
  readonly change: DiskChange;
  /** Digests of the files by their paths in the folder; temporaries are left out. */
  readonly files: ReadonlyMap<string, string>;
  /** Temporaries that the next run has to remove, as paths. */
  readonly strays: readonly string[];
  /** A copy of the folder, where one was asked for. */
  readonly copy?: string;
}

/** Versions of files, by digest. */
export type Versions = Map<string, { readonly path: string; readonly bytes: Uint8Array<ArrayBuffer> }>;

/**
 * Runs `body` and looks at `folder` before each change.
 *
 * @param wantsCopy whether a moment is to be copied, with its temporaries
 */
export async function momentsOf(
  folder: string,
  body: () => Promise<unknown>,
  wantsCopy: (moment: Moment, earlier: readonly Moment[]) => boolean,
): Promise<{ moments: Moment[]; versions: Versions }> {
  const moments: Moment[] = [];
  const versions: Versions = new Map();
  const known = new Map<string, string>();
  const look = (change: DiskChange): void => {
    const files = new Map<string, string>(), strays: string[] = [];
    for (const path of pathsIn(folder, "", strays)) files.set(path, digestAt(folder, path, { known, versions }));
    const moment = { change, files, strays };
    moments.push(wantsCopy(moment, moments) ? { ...moment, copy: copyOf(folder) } : moment);
  };
  beforeChange.hook = look;
  try {
    await body();
  } finally {
    delete beforeChange.hook;
  }
  return { moments, versions };
}

/** The files below a folder, without temporaries, which are added to `strays`. */
function* pathsIn(root: string, below: string, strays: string[]): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(`${root}/${below}`)) {
    if (isTemporaryName(name)) strays.push(below + name);
    else if (isDirectory) yield* pathsIn(root, `${below}${name}/`, strays);
    else yield below + name;
  }
}

/** The temporaries below a folder. */
export function straysBelow(folder: string): string[] {
  const strays: string[] = [];
  for (const _ of pathsIn(folder, "", strays));
  return strays;
}

function digestAt(
  folder: string,
  path: string,
  { known, versions }: { known: Map<string, string>; versions: Versions },
): string {
  const { ino, size, mtime } = Deno.statSync(`${folder}/${path}`);
  const key = JSON.stringify([path, ino, size, mtime]);
  const digest = known.get(key) ?? `${path} ${known.size}`;
  if (!known.has(key)) {
    known.set(key, digest);
    versions.set(digest, { path, bytes: Deno.readFileSync(`${folder}/${path}`) });
  }
  return digest;
}

function copyOf(folder: string): string {
  const copy = Deno.makeTempDirSync();
  copyInto(folder, copy);
  return copy;
}

function copyInto(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory, isSymlink } of Deno.readDirSync(from)) {
    const [source, target] = [`${from}/${name}`, `${to}/${name}`];
    if (isDirectory) copyInto(source, target);
    else if (isSymlink) Deno.symlinkSync(Deno.readLinkSync(source), target);
    else Deno.copyFileSync(source, target);
  }
}
