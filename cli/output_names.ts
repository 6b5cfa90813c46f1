/**
 * Names of the pictures that a command writes: patterns, numbers, and no silent overwriting.
 *
 * @module
 */
import { formatOfPath } from "../pipeline/image/picture.ts";
import { isTaken } from "../pipeline/output/file.ts";
import { checkOutput } from "../pipeline/output/target.ts";
import { ArgumentError } from "./argument_error.ts";
import { exists } from "./files.ts";
import { writeKept } from "./kept.ts";
import { nearest } from "./nearest.ts";

/** What a pattern can tell of a picture. */
export interface NamedPicture {
  readonly prompt: string;
  readonly seed: bigint;
}

const placeholders = ["seed", "index", "prompt"] as const;

/** Longest part of a name that a prompt gives, in bytes: names may have 255. */
const promptBytes = 80;

/**
 * Checks a pattern.
 *
 * @throws {ArgumentError} for a placeholder that there is not, with a suggestion
 */
export function checkPattern(pattern: string, flag = "--output"): void {
  for (const [whole, name] of withoutEscapes(pattern).matchAll(/\{([^{}]*)\}/g)) {
    if ((placeholders as readonly string[]).includes(name)) continue;
    const meant = nearest(name, placeholders);
    throw new ArgumentError(
      `Cannot use ${whole} in ${flag} ${JSON.stringify(pattern)}: the placeholders are {seed}, {index} and {prompt}` +
        `${meant === undefined ? "" : ` (did you mean {${meant}}?)`}; {{ and }} stand for braces`,
      { argument: flag },
    );
  }
}

/**
 * The names of a command's pictures. Without placeholders, several pictures are numbered before the
 * ending: rose.png becomes rose_1.png, rose_2.png. Pictures whose names would be equal are numbered
 * too.
 */
export function patternNames(pattern: string, pictures: readonly NamedPicture[]): string[] {
  checkPattern(pattern);
  const names = pictures.map((picture, i) => filled(pattern, picture, i));
  const counts = Map.groupBy(names, (name) => name);
  if (counts.size === names.length) return names;
  const used = new Map<string, number>();
  return names.map((name) => {
    if (counts.get(name)!.length === 1) return name;
    const number = (used.get(name) ?? 0) + 1;
    used.set(name, number);
    return numbered(name, number);
  });
}

/**
 * Names that no file has yet: a name that is taken gets the next free number. Those given out are
 * taken, too.
 */
export class FreeNames {
  readonly #overwrite: boolean;
  readonly #given = new Set<string>();

  constructor(options: { overwrite: boolean }) {
    this.#overwrite = options.overwrite;
  }

  /** The name to write to, for a name that is wanted. */
  async take(wanted: string): Promise<string> {
    const [, stem, number, ending] = /^(.*?)(?:_(\d{1,9}))?(\.[^./\\]*)?$/s.exec(wanted)!;
    let name = wanted;
    for (let next = Number(number ?? 0) + 1; await this.#isTaken(name); next++) {
      name = `${stem}_${next}${ending ?? ""}`;
    }
    this.#given.add(name);
    return name;
  }

  /**
   * Writes a file under a free name, also where another run writes to the same names at the same
   * time. Returns the name.
   */
  async write(wanted: string, bytes: Uint8Array): Promise<string> {
    for (;;) {
      const name = await this.take(wanted);
      try {
        await writeKept(name, bytes, { isNew: !this.#overwrite });
        return name;
      } catch (error) {
        if (!isTaken(error)) throw error;
      }
    }
  }

  async #isTaken(name: string): Promise<boolean> {
    return this.#given.has(name) || (!this.#overwrite && await exists(name));
  }
}

/**
 * Checks that pictures can be written under the names that are wanted, before any work is done, and
 * creates their folders.
 *
 * @throws {OutputError} where one cannot be written
 */
export async function checkPictures(wanted: readonly string[], options: { overwrite: boolean }): Promise<void> {
  const names = new FreeNames(options);
  for (const name of wanted) {
    formatOfPath(name);
    await checkOutput(await names.take(name));
  }
}

/** rose.png and 2: rose_2.png */
export function numbered(name: string, number: number): string {
  return name.replace(/(\.[^./\\]*)?$/, (ending) => `_${number}${ending}`);
}

function filled(pattern: string, { prompt, seed }: NamedPicture, i: number): string {
  const texts: Record<string, string> = { seed: String(seed), index: String(i + 1), prompt: promptPart(prompt) };
  return pattern.replace(/\{\{|\}\}|\{([^{}]*)\}/g, (whole, name) => name === undefined ? whole[0] : texts[name]);
}

function withoutEscapes(pattern: string): string {
  return pattern.replace(/\{\{|\}\}/g, "");
}

/**
 * A prompt as part of a file's name on any system: letters, digits and a few signs, all else as one
 * dash; at most {@linkcode promptBytes} bytes.
 */
export function promptPart(prompt: string): string {
  const plain = prompt.toWellFormed().normalize("NFC").replace(/[^\p{L}\p{M}\p{N}_.,+=]+/gu, "-");
  let part = "";
  for (const character of plain) {
    if (new TextEncoder().encode(part + character).length > promptBytes) break;
    part += character;
  }
  const trimmed = part.replace(/^[-.]+|[-.]+$/g, "");
  if (trimmed === "") return "untitled";
  // Windows reserves these names, with any ending.
  return /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i.test(trimmed) ? `_${trimmed}` : trimmed;
}
