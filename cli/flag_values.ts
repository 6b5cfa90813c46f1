/**
 * The values of flags: their syntax and range, and messages that say what would be accepted.
 *
 * @module
 */
import { ArgumentError } from "./argument_error.ts";
import { type Flag, kebab, type NumberFlag, type PairFlag, placeholderOf, type TextFlag } from "./flag_types.ts";
import { nearest } from "./nearest.ts";
import { inFlags } from "./option_flags.ts";

/** The largest seed, 2⁶⁴ − 1. */
export const largestSeed: bigint = 2n ** 64n - 1n;

/**
 * The value of a given flag.
 *
 * @throws {ArgumentError} where the text is not accepted
 */
export function checkedValue(
  name: string,
  flag: Flag,
  text: string,
): string | number | bigint | boolean | readonly [number, number] {
  const written = `--${kebab(name)}`;
  switch (flag.kind) {
    case "switch":
      return text === "true";
    case "texts":
      return text;
    case "text":
      return checkedChoice(written, flag, text);
    case "pair":
      return parsePair(text, written, flag);
    case "seed":
      return parseSeed(text, written, flag.max);
    default:
      return parseNumber(text, written, flag);
  }
}

/**
 * The default of an absent flag.
 *
 * @throws {ArgumentError} where the flag is required
 */
export function defaultValue(name: string, flag: Flag): unknown {
  if ("required" in flag && flag.required) {
    const [letter] = [flag.alias ?? []].flat().filter((alias) => alias.length === 1);
    const written = letter === undefined ? `--${kebab(name)}` : `-${letter} or --${kebab(name)}`;
    throw new ArgumentError(`Cannot go on without ${written}: ${flag.help}`, {
      argument: `--${kebab(name)}`,
    });
  }
  if (flag.kind === "switch") return flag.default ?? false;
  if (flag.kind === "texts") return [...flag.default ?? []];
  return flag.kind === "pair" ? undefined : flag.default;
}

/**
 * A number of decimal digits: 20, -3, .5, 1e3.
 *
 * @param written the flag, as the message names it
 * @param range.takes describes the accepted numbers. Default: the range in words.
 * @throws {ArgumentError} for other spellings and numbers out of range
 */
export function parseNumber(
  text: string,
  written: string,
  range: Omit<NumberFlag, "help"> & { readonly takes?: string },
): number {
  const number = isDecimal(text) ? Number(text) : NaN;
  const { min = -Infinity, max = Infinity, above = -Infinity, multipleOf } = range;
  const isAccepted = Number.isFinite(number) && number >= min && number <= max && number > above &&
    (range.kind === "number" || Number.isSafeInteger(number)) &&
    (multipleOf === undefined || number % multipleOf === 0);
  if (!isAccepted) throw rejected(written, text, (range.takes ?? describe(range)) + decimalAdvice(text));
  return Object.is(number, -0) ? 0 : number;
}

/**
 * A seed: 0 to 2⁶⁴ − 1, exactly; -1 gives a random one below 2³², as a generator tells those apart.
 *
 * @throws {ArgumentError} for all else
 */
export function parseSeed(text: string, written: string, largest: bigint = largestSeed): bigint {
  const isWhole = /^[+-]?\d+$/.test(text);
  const value = isWhole ? BigInt(text.replace(/^\+/, "")) : wholeOfExponent(text);
  if (value === -1n) return BigInt(crypto.getRandomValues(new Uint32Array(1))[0]);
  if (value === undefined || value < 0n || value > largest) {
    throw rejected(
      written,
      text,
      `a whole number from 0 to ${largest}, or -1 for a random seed${isWhole ? "" : decimalAdvice(text)}`,
    );
  }
  return value;
}

/** Two whole numbers from 0 on, such as 1024x768. */
function parsePair(text: string, written: string, flag: PairFlag): readonly [number, number] {
  const numbers = text.split(flag.separator).map((part) => /^\d{1,6}$/.test(part) ? Number(part) : NaN);
  if (numbers.length === 2 && !numbers.some(Number.isNaN)) return [numbers[0], numbers[1]];
  throw rejected(written, text, `two whole numbers as ${placeholderOf(flag)}`);
}

/** "1e3" as a seed. */
function wholeOfExponent(text: string): bigint | undefined {
  const number = isDecimal(text) ? Number(text) : NaN;
  return Number.isSafeInteger(number) ? BigInt(number) : undefined;
}

/** The seed of the i-th picture; after the largest seed comes 0. */
export function followingSeed(seed: bigint, i: number): bigint {
  return BigInt.asUintN(64, seed + BigInt(i));
}

function isDecimal(text: string): boolean {
  return /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text);
}

/** The decimal spelling of numbers that are written in another way. */
function decimalAdvice(text: string): string {
  if (/^[+-]?0[xob][\da-f]+$/i.test(text)) {
    return `, in decimal digits (did you mean ${text.startsWith("-") ? "-" : ""}${Number(text.replace(/^[+-]/, ""))}?)`;
  }
  const plain = text.replaceAll("_", "").replaceAll(" ", "");
  if (plain !== text && isDecimal(plain)) return `, without separators (did you mean ${Number(plain)}?)`;
  if (text.endsWith("%") && isDecimal(text.slice(0, -1))) {
    return `, not a percentage (did you mean ${Number(text.slice(0, -1)) / 100}?)`;
  }
  if (/^[+-]?\d+,\d+$/.test(text)) return `, with a decimal point (did you mean ${text.replace(",", ".")}?)`;
  return "";
}

function checkedChoice(written: string, flag: TextFlag, text: string): string {
  if (flag.choices === undefined || flag.choices.includes(text)) return text;
  const meant = nearest(text, flag.choices);
  throw rejected(written, text, `${flag.choices.join(", ")}${meant === undefined ? "" : ` (did you mean ${meant}?)`}`);
}

/** The error for a value that a flag does not take. */
export function rejected(written: string, text: string, takes: string): ArgumentError {
  return new ArgumentError(`Cannot use ${written} ${JSON.stringify(text)}: it takes ${takes}`, { argument: written });
}

/** "a whole number, at least 8, a multiple of 8" */
function describe(flag: Omit<NumberFlag, "help">): string {
  const parts = [flag.kind === "whole" ? "a whole number" : "a number"];
  if (flag.above !== undefined) parts.push(`above ${flag.above}`);
  if (flag.min !== undefined) parts.push(`at least ${flag.min}`);
  if (flag.max !== undefined) parts.push(`at most ${flag.max}`);
  if (flag.multipleOf !== undefined) parts.push(`a multiple of ${flag.multipleOf}`);
  return parts.join(", ");
}

/** The error for a flag that is given without its value. */
export function valueMissing(written: string, flag: Exclude<Flag, { kind: "switch" }>, next?: string): ArgumentError {
  return new ArgumentError(
    `Cannot use ${written} without a value: write ${written} ${placeholderOf(flag)}` +
      (next === undefined ? "" : `, or ${written}=${next} if "${next}" is its value`),
    { argument: written },
  );
}

/** The error for a flag that no command or this command does not have. */
export function unknownFlag(written: string, known: readonly string[]): ArgumentError {
  const name = written.replace(/^-+/, "");
  // Options of the library and of diffusers first: --guidance-scale, --num_inference_steps.
  const flag = inFlags(name.replaceAll(/[-_](\w)/g, (_, letter) => letter.toUpperCase()));
  // Compare long names only: "-steps" more likely means "--steps" than "-s".
  const meant = known.includes(flag) ? flag : nearest(`--${name}`, known.filter((flag) => flag.startsWith("--")));
  const advice = meant === undefined ? "--help lists all flags" : `did you mean ${meant}?`;
  return new ArgumentError(`Cannot use ${written} as this command has no such flag: ${advice}`, {
    argument: written,
  });
}
