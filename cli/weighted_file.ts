import { ArgumentError } from "./argument_error.ts";

/** A file with a factor: `FILE` or `FILE:NUMBER`. */
export interface WeightedFile {
  readonly path: string;
  /** Default: 1. */
  readonly weight: number;
}

/**
 * Parses the value of a flag such as `--lora FILE[:WEIGHT]`.
 *
 * @throws {ArgumentError} where there is no file, or something that is not a number follows a colon
 */
export function parseWeightedFile(text: string, flag: string, placeholder: string): WeightedFile {
  const [, path, digits] = /^(.+?)(?::([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?))?$/is.exec(text) ?? [];
  if (path === undefined) {
    throw new ArgumentError(`Cannot use ${flag} without a file: write ${flag} ${placeholder}`, { argument: flag });
  }
  // A colon after the ending of a file begins a factor; elsewhere it belongs to the path (C:\…).
  const [, tail] = /\.(?:safetensors|sft|bin|pt|ckpt):([^/\\]*)$/i.exec(path) ?? [];
  const weight = digits === undefined ? 1 : Number(digits);
  if (tail !== undefined || !Number.isFinite(weight)) {
    throw new ArgumentError(
      `Cannot use ${flag} ${JSON.stringify(text)}: after the colon it takes a number, as in ${
        placeholder.replace(/\[.*/, "")
      }:0.8`,
      { argument: flag },
    );
  }
  return { path, weight };
}
