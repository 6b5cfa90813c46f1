/**
 * The pictures of a file that holds several, such as a grid or a sheet: kept one by one until the
 * file is written.
 *
 * @module
 */
import { disk } from "../pipeline/output/disk.ts";
import { removeStrays } from "../pipeline/output/temporary.ts";
import { encodePicture, type Picture } from "../pipeline/image/picture.ts";
import { keep, unkeep, writeKept } from "./kept.ts";
import { exists } from "./files.ts";
import { FreeNames, numbered } from "./output_names.ts";

/**
 * A folder beside the file, `rose.parts` for `rose.png`, that holds the finished pictures. It is
 * removed with the pictures once the file is whole, and stays when the command fails.
 */
export class Parts {
  readonly #folder: string;
  readonly #files: string[] = [];

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Chooses the folder; it is created with the first picture. */
  static async beside(path: string): Promise<Parts> {
    const wanted = path.replace(/(\.[^./\\]*)?$/, ".parts");
    // Earlier runs that died have left theirs, which no run writes to again.
    for (let name = wanted, number = 1; await exists(name); name = numbered(wanted, number++)) await removeStrays(name);
    return new Parts(await new FreeNames({ overwrite: false }).take(wanted));
  }

  /** Writes a finished picture. */
  async add(name: string, picture: Picture, text: Record<string, string>): Promise<void> {
    const path = `${this.#folder}/${name}.png`;
    await writeKept(path, await encodePicture(picture, "png", { text }));
    this.#files.push(path);
  }

  /** Says that the file is whole, so that its parts are not needed any more. */
  async replaceBy(path: string): Promise<void> {
    keep(path);
    for (const file of this.#files) {
      await disk.remove(file).catch(() => {});
      unkeep(file);
    }
    // fails, and should, where somebody else has put something into it
    if (this.#files.length > 0) await disk.remove(this.#folder).catch(() => {});
  }
}
