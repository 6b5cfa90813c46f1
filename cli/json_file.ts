import { isTaken, writeBytes, writeText } from "../pipeline/output/file.ts";
import { disk } from "../pipeline/output/disk.ts";
import { checkNewFile } from "./files.ts";
import type { Flags } from "./flag_types.ts";
import { keep, unkeep } from "./kept.ts";
import { jsonText, say, sayJson } from "./printer.ts";

/** `--json` prints, `--json FILE` writes a file: for results that are kept. */
export const jsonFlag = {
  kind: "text",
  placeholder: "[FILE]",
  bare: "-",
  group: "Messages",
  help: "print the result as JSON, and nothing else on standard output; with FILE, write it there instead",
  access: { kind: "write", purpose: "write the result" },
} as const satisfies Flags[string];

/** Refuses a file that exists; called before the work. */
export async function checkJsonFile(json: string | undefined, options: { overwrite: boolean }): Promise<void> {
  if (json !== "-") await checkNewFile(json, "--json", options);
}

/** Prints or writes the result, as `--json` asks. */
export async function giveJson(json: string | undefined, value: unknown): Promise<void> {
  if (json === undefined) return;
  if (json === "-") return sayJson(value);
  await writeText(json, jsonText(value) + "\n");
  keep(json);
  say(json);
}

/**
 * Writes what there is of a result so far beside its file: `NAME.partial.json`, which stays when
 * the command fails. What an earlier run has left there stays, too: the name is then numbered.
 * Remove it once the whole is written.
 */
export class PartialJson {
  #path: string | undefined;
  #isWritten = false;

  constructor(json: string | undefined) {
    if (json !== undefined && json !== "-") this.#path = json.replace(/(\.json)?$/i, ".partial.json");
  }

  async write(value: unknown): Promise<void> {
    if (this.#path === undefined) return;
    const text = new TextEncoder().encode(jsonText(value) + "\n");
    const first = this.#path;
    for (let n = 2; !await this.#writeAs(this.#path, text); n++) {
      this.#path = first.replace(/\.partial\.json$/, `.partial-${n}.json`);
    }
    this.#isWritten = true;
    keep(this.#path);
  }

  /** Returns whether it was written: the first time, the name must be free. */
  async #writeAs(path: string, text: Uint8Array): Promise<boolean> {
    try {
      await writeBytes(path, text, { isNew: !this.#isWritten });
      return true;
    } catch (error) {
      if (isTaken(error)) return false;
      throw error;
    }
  }

  async remove(): Promise<void> {
    if (this.#path === undefined || !this.#isWritten) return;
    await disk.remove(this.#path);
    unkeep(this.#path);
  }
}
