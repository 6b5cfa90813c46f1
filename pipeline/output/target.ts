/**
 * Where a file is to be written, and whether it can be.
 *
 * @module
 */

import { OutputError } from "../errors.ts";
import { disk } from "./disk.ts";
import { naming } from "./output_error.ts";
import { followLinks, ignoreMissing, liesIn, parentOf, withoutSlashes } from "./paths.ts";
import { createTemporary, discard } from "./temporary.ts";

/**
 * Refuses runtimes without Deno's file functions: browsers and Node.
 *
 * @throws {OutputError} in these
 */
export function requireDisk(path: string): void {
  if (typeof Deno !== "undefined") return;
  throw new OutputError(
    `Cannot write ${path} as this runtime has no files that can be written by this library: run it with Deno, ` +
      "or take the bytes and write them yourself",
    { path },
  );
}

/** A place for a file. */
export interface Target {
  /** The path behind symbolic links. */
  readonly place: string;
  /** The file that is there, whose permissions and owner are kept. */
  readonly old: Deno.FileInfo | undefined;
}

/**
 * Finds the place that `path` names and creates its folder.
 *
 * @throws {OutputError} where something other than a regular file is there, or the file there is
 *   write-protected
 */
export async function targetOf(path: string): Promise<Target> {
  requireDisk(path);
  if (path === "") {
    throw new OutputError("Cannot write a file without a name: give its path", { path });
  }
  if (/[/\\]$/.test(path) && Deno.build.os === "windows" || path.endsWith("/")) {
    throw new OutputError(`Cannot write ${path} as it is the name of a folder: name a file in it`, { path });
  }
  // Deno lets nobody look there without all permissions.
  if (/^\/dev\/(?!shm\/)/.test(path)) throw irregular(path);
  return await naming(path, async () => {
    const place = await followLinks(path);
    const info = await Deno.lstat(place).catch(ignoreMissing);
    if (info === undefined) {
      await disk.mkdir(parentOf(place));
      return { place, old: undefined };
    }
    if (info.isDirectory) {
      throw new OutputError(`Cannot write ${path} as it is a folder: name a file in it`, { path });
    }
    if (!info.isFile) throw irregular(path);
    (await Deno.open(place, { write: true })).close(); // throws where the file is write-protected
    return { place, old: info };
  });
}

function irregular(path: string): OutputError {
  return new OutputError(
    `Cannot write ${path} as it is a device, a pipe or a socket and a regular file is required: name a file`,
    { path },
  );
}

/**
 * Checks that a file can be written to `path` and creates its folder, so that long work does not
 * end with an error. The file itself is neither created nor changed. Devices, pipes and sockets are
 * refused, `/dev/stdout` included.
 *
 * ```ts
 * await checkOutput("pictures/rose.png");
 * ```
 *
 * @throws {OutputError} where it cannot be written; it says why and what to do
 */
export async function checkOutput(path: string): Promise<void> {
  const { place } = await targetOf(path);
  await checkFolder(path, place);
}

/**
 * Checks that a folder can be written at `path`: one that exists may be filled, and one that does
 * not may be created.
 *
 * @throws {OutputError} where it cannot be written, or a file is there
 */
export async function checkOutputFolder(path: string): Promise<void> {
  requireDisk(path);
  if (path === "") throw new OutputError("Cannot write a folder without a name: give its path", { path });
  await naming(path, async () => {
    const place = await followLinks(withoutSlashes(path));
    const info = await Deno.stat(place).catch(ignoreMissing);
    if (info !== undefined && !info.isDirectory) {
      throw new OutputError(`Cannot write the folder ${path} as a file is there: choose another place`, { path });
    }
    if (info === undefined) await disk.mkdir(parentOf(place));
    await checkReplaceable(path, place);
    await checkFolder(path, info === undefined ? place : `${place}/file`);
    // a replacement is written beside the folder
    if (info !== undefined) await checkFolder(path, place);
  });
}

/**
 * Refuses folders that cannot be replaced by a rename: mount points, and the working folder, whose
 * users would be left in a folder that is gone.
 *
 * @throws {OutputError} for these
 */
export async function checkReplaceable(path: string, place: string): Promise<void> {
  const info = await Deno.stat(place).catch(ignoreMissing);
  if (info === undefined) return;
  const real = await Deno.realPath(place);
  const above = await Deno.stat(parentOf(real));
  if (info.dev !== above.dev || real === parentOf(real)) {
    throw new OutputError(
      `Cannot save to ${path} as it is a mount point, and the folder is replaced as a whole: choose a folder inside it`,
      { path },
    );
  }
  if (await liesIn(".", real)) {
    throw new OutputError(
      `Cannot save to ${path} as it is the working folder or holds it, and the folder is replaced as a whole: ` +
        "choose a folder inside it, or run this elsewhere",
      { path },
    );
  }
}

/** Creates and removes a temporary beside `place`. */
async function checkFolder(path: string, place: string): Promise<void> {
  await naming(path, async () => {
    using probe = await createTemporary(place);
    await discard(probe.path);
  });
}
