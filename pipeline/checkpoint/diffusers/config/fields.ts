/**
 * Checked access to the JSON configuration files of diffusers and transformers.
 *
 * A missing key takes the default of its class (diffusers 0.23, transformers 4.35). A value that
 * this project does not implement is rejected with an error, because ignoring it would give
 * wrong images. Keys that matter only in training are ignored.
 *
 * @module
 */

import { ConfigError } from "../../../errors.ts";
import { shown } from "../../../shown.ts";
import type { FileTree } from "../../source/file_tree.ts";

/** The largest width or vocabulary that a configuration may name. */
export const maxSize = 1 << 20;
/** The largest side of pictures or latents that a configuration may name. */
export const maxSide = 1 << 14;
/** The most blocks that a configuration may list. */
const maxBlocks = 64;
/** The most layers that a configuration may claim in one place. */
export const maxLayers = 512;

/** How deep lists for blocks and their layers nest. */
const maxNesting = 3;

/** A JSON object with the name of its file, for error messages. */
export class Fields {
  readonly #json: Record<string, unknown>;

  constructor(json: unknown, readonly file: string) {
    this.#json = asObject(json, file);
  }

  /**
   * The value of a key; `undefined` if the key is missing. `null` counts as a value.
   */
  value(key: string): unknown {
    return Object.hasOwn(this.#json, key) ? this.#json[key] : undefined;
  }

  refuse(key: string, supported: string): never {
    const value = this.value(key);
    const found = value === undefined ? "is missing" : `is ${shown(value)}`;
    throw new ConfigError(`Cannot load ${this.file} as its ${key} ${found}; supported: ${supported}`, {
      source: this.file,
      key,
      value,
    });
  }

  number(key: string, fallback: number): number {
    const value = this.value(key) ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value)) this.refuse(key, "a number");
    return value;
  }

  /** What a normalization adds to variances. */
  epsilon(key: string, fallback: number): number {
    const value = this.number(key, fallback);
    return value >= 0 ? value : this.refuse(key, "a number of at least 0");
  }

  /** A whole number from 1 to a sane limit: sizes and counts. */
  count(key: string, fallback: number, max: number = maxSize): number {
    const value = this.value(key) ?? fallback;
    return isCount(value, max) ? value : this.refuse(key, `a whole number from 1 to ${max}`);
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.value(key) ?? fallback;
    return typeof value === "boolean" ? value : this.refuse(key, "true or false");
  }

  counts(key: string, fallback: readonly number[], max: number = maxSize): readonly number[] {
    const value = this.value(key) ?? fallback;
    return Array.isArray(value) && value.length > 0 && value.length <= maxBlocks &&
        value.every((count) => isCount(count, max))
      ? value
      : this.refuse(key, `a list of 1 to ${maxBlocks} whole numbers from 1 to ${max}`);
  }

  /**
   * A count that some files repeat, such as for each block; others that differ are not supported.
   */
  sameCount(key: string, fallback: number, options: { max?: number; supported?: string } = {}): number {
    const { max = maxSize, supported = "one whole number, the same for all blocks" } = options;
    const value = this.value(key) ?? fallback;
    const first = Array.isArray(value) ? value[0] : value;
    const isSame = !Array.isArray(value) || value.every((count) => count === first);
    return isCount(first, max) && isSame ? first : this.refuse(key, `${supported}, from 1 to ${max}`);
  }

  /** @param others what is supported besides, for the message */
  oneOf<T extends string>(key: string, fallback: T, supported: readonly T[], others: readonly string[] = []): T {
    const value = this.value(key) ?? fallback;
    return supported.find((item) => item === value) ?? this.refuse(key, [...supported, ...others].join(", "));
  }

  listOf<T extends string>(key: string, fallback: readonly T[], supported: readonly T[]): readonly T[] {
    const value = this.value(key) ?? fallback;
    const isList = Array.isArray(value) && value.length > 0 && value.length <= maxBlocks &&
      value.every((item) => supported.includes(item));
    return isList ? value : this.refuse(key, `a list of 1 to ${maxBlocks} of ${supported.join(", ")}`);
  }

  /**
   * Refuses every value of a key but the given ones; missing is fine, as it is the class's default.
   *
   * @param supported the value that is supported
   * @param options.or values that mean the same
   * @param options.perBlock whether a list that repeats such values for each block means the same
   * @param options.hint a remark for the message
   */
  only(
    key: string,
    supported: JsonScalar,
    options: { or?: readonly JsonScalar[]; perBlock?: boolean; hint?: string } = {},
  ): void {
    const { or = [], perBlock = false, hint = "" } = options;
    const value = this.value(key);
    const isSupported = (item: unknown) => item === supported || or.some((other) => other === item);
    if (value === undefined || isSupported(value)) return;
    if (perBlock && Array.isArray(value) && value.flat(maxNesting).every(isSupported)) return;
    this.refuse(key, `${JSON.stringify(supported)}${hint === "" ? "" : ` (${hint})`}`);
  }

  /** The object at a key. */
  object(key: string): Fields {
    return new Fields(this.value(key), `${this.file}, ${key}`);
  }
}

/** @throws {ConfigError} if the content of `file` is not a JSON object */
function asObject(json: unknown, file: string): Readonly<Record<string, unknown>> {
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  throw new ConfigError(`Cannot read ${file} as it must be a JSON object, not ${shown(json)}`, {
    source: file,
    key: "",
    value: json,
  });
}

/**
 * Reads a JSON object whose keys are checked elsewhere.
 *
 * @throws {CheckpointError} if the file is missing or not JSON
 * @throws {ConfigError} if it holds another value
 */
export async function readObject(tree: FileTree, path: string): Promise<Readonly<Record<string, unknown>>> {
  return asObject(await tree.readJson(path), `${tree.name}/${path}`);
}

type JsonScalar = string | number | boolean | null;

export function isCount(value: unknown, max: number = maxSize): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= max;
}

/** Rejects widths that are not multiples of their number of heads or groups. */
export function checkDivides(
  fields: Fields,
  widthKey: string,
  widths: readonly number[],
  parts: readonly number[],
): void {
  widths.forEach((width, i) => {
    if (width % parts[i] !== 0) {
      fields.refuse(widthKey, `multiples of ${parts[i]} (${parts[i]} does not divide ${width})`);
    }
  });
}

/**
 * Reads and parses one configuration file of a folder: `await readConfig(tree, "config.json",
 * parseUNetConfig)`.
 *
 * @throws {CheckpointError} if the file is missing or not JSON
 * @throws {ConfigError} if the configuration is not supported
 */
export async function readConfig<T>(
  tree: FileTree,
  path: string,
  parse: (json: unknown, file: string) => T,
): Promise<T> {
  return parse(await tree.readJson(path), `${tree.name}/${path}`);
}
