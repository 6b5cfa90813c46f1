/**
 * Typed command line flags. A command declares its flags in one table; parsing, checks, suggestions
 * for misspelled names and the help all derive from it.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { nearest } from "./nearest.ts";

interface Described {
  /** One line of help; the default is appended. */
  readonly help: string;
  /** Other names: one letter (`-p`) or more (`--prompts`). */
  readonly alias?: string | readonly string[];
  /** Stands for the value in the help, as in `--steps N`. */
  readonly placeholder?: string;
  /** Heading of the flag in the help. */
  readonly group?: string;
}

/** A flag with a text value. */
export interface TextFlag extends Described {
  readonly kind: "text";
  readonly default?: string;
  readonly required?: boolean;
  /** The accepted texts. Default: any. */
  readonly choices?: readonly string[];
}

/** A flag that may be given several times, each with a text. */
export interface TextsFlag extends Described {
  readonly kind: "texts";
  readonly default?: readonly string[];
  readonly required?: boolean;
}

/** A flag with a number; `whole` accepts integers only. */
export interface NumberFlag extends Described {
  readonly kind: "number" | "whole";
  readonly default?: number;
  readonly required?: boolean;
  /** Smallest accepted number. */
  readonly min?: number;
  /** Largest accepted number. */
  readonly max?: number;
  /** Exclusive lower bound. */
  readonly above?: number;
  /** Accepts only multiples of this. */
  readonly multipleOf?: number;
}

/** A flag without a value: `--name` turns it on, `--no-name` off. */
export interface SwitchFlag extends Described {
  readonly kind: "switch";
  readonly default?: boolean;
}

/** A declared flag. */
export type Flag = TextFlag | TextsFlag | NumberFlag | SwitchFlag;

/** Flags by their names in code: `cfgScale` is `--cfg-scale` on the command line. */
export type Flags = Readonly<Record<string, Flag>>;

type Certain<F, V> = F extends { default: unknown } | { required: true } ? V : V | undefined;

type Value<F extends Flag> = F extends SwitchFlag ? boolean
  : F extends TextsFlag ? string[]
  : F extends NumberFlag ? Certain<F, number>
  : F extends { choices: readonly (infer Choice)[] } ? Certain<F, Choice>
  : Certain<F, string>;

/** The values of declared flags; `undefined` only if a flag has no default and is not required. */
export type Values<F extends Flags> = { -readonly [Name in keyof F]: Value<F[Name]> };

/** Arguments of a command that are not flags. */
export interface Positionals {
  /** Their name in the help. */
  readonly placeholder: string;
  readonly min: number;
  readonly max: number;
}

/** The result of {@linkcode parseArguments}. */
export interface Parsed<F extends Flags> {
  readonly values: Values<F>;
  /** The arguments that are not flags or their values. */
  readonly positionals: string[];
  /** The flags that were given on the command line. */
  readonly given: ReadonlySet<keyof F>;
}

/**
 * The arguments do not fit the command: an unknown flag, a missing value, a number out of range.
 */
export class ArgumentError extends RangeError {
  override name = "ArgumentError";
  /** The flag as written, or the argument itself. */
  readonly argument: string;

  constructor(message: string, details: { argument: string }) {
    super(message);
    this.argument = details.argument;
  }
}

/**
 * Parses the arguments of a command. A value follows its flag after a space; it may be a negative
 * number or empty. Values that begin with `--` are written `--flag=--value`. All arguments after
 * `--` are positional.
 *
 * @throws {ArgumentError} Where a flag is not declared, lacks its value, or has a value that is not
 *   accepted.
 *
 * @example
 * ```ts
 * const { values } = parseArguments(Deno.args, {
 *   prompt: { kind: "texts", alias: "p", required: true, help: "prompt to draw" },
 *   steps: { kind: "whole", default: 50, min: 1, help: "denoising steps" },
 * });
 * values.steps; // number
 * ```
 */
export function parseArguments<const F extends Flags>(
  args: readonly string[],
  flags: F,
  options: { positionals?: Positionals } = {},
): Parsed<F> {
  const { placeholder, min, max } = options.positionals ?? { placeholder: "", min: 0, max: 0 };
  const names = Object.keys(flags);
  // All flags are parsed as texts, switches as "true" and "false", so that absent flags of every
  // kind are undefined.
  const parsed: Record<string, string | string[] | undefined> & { _: string[] } = parseArgs(canonical(args, flags), {
    string: [...names.map(kebab), "_"],
    collect: names.filter((name) => flags[name].kind === "texts").map(kebab),
  });

  const values: Record<string, unknown> = {};
  const given = new Set<string>();
  for (const [name, flag] of Object.entries(flags)) {
    const value = parsed[kebab(name)];
    // Absent flags of kind "texts" are empty lists.
    if (value !== undefined && !(Array.isArray(value) && value.length === 0)) given.add(name);
    values[name] = given.has(name) ? checked(name, flag, value!) : defaultOf(name, flag);
  }
  const positionals = parsed._;
  if (positionals.length > max) {
    const [extra] = positionals.slice(max);
    throw new ArgumentError(
      max === 0
        ? `Cannot use the argument "${extra}": this command takes only flags; put a text with spaces in quotes`
        : `Cannot use the argument "${extra}": this command takes at most ${max} (${placeholder})`,
      { argument: extra },
    );
  }
  if (positionals.length < min) {
    throw new ArgumentError(`Cannot go on without ${placeholder}`, { argument: placeholder });
  }
  return { values: values as Values<F>, positionals, given: given as ReadonlySet<keyof F> };
}

/** The help of flags: two columns, grouped by heading. */
export function helpOfFlags(flags: Flags): string {
  const rows = Object.entries(flags).map(([name, flag]) => {
    const letters = aliasesOf(flag).filter((alias) => alias.length === 1).map(dashed);
    const value = flag.kind === "switch" ? "" : ` ${placeholderOf(flag)}`;
    return {
      group: flag.group ?? "Flags",
      left: `${[...letters, `--${kebab(name)}`].join(", ")}${value}`,
      right: flag.help + remarks(name, flag),
    };
  });
  const width = Math.min(32, Math.max(...rows.map(({ left }) => left.length)));
  const line = ({ left, right }: { left: string; right: string }): string =>
    left.length <= width ? `  ${left.padEnd(width)}  ${right}` : `  ${left}\n  ${" ".repeat(width)}  ${right}`;
  return [...Map.groupBy(rows, ({ group }) => group)]
    .map(([group, members]) => [`${group}:`, ...members.map(line)].join("\n"))
    .join("\n\n");
}

/** A flag's name on the command line, without dashes. */
function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function aliasesOf(flag: Flag): readonly string[] {
  return typeof flag.alias === "string" ? [flag.alias] : flag.alias ?? [];
}

function dashed(alias: string): string {
  return alias.length === 1 ? `-${alias}` : `--${alias}`;
}

/**
 * Rewrites each flag as `--name=value`, so that the parser has nothing to guess: `-1` after
 * `--seed` and "" are values, "true" after a switch is not.
 *
 * @throws {ArgumentError} for unknown flags and missing values
 */
function canonical(args: readonly string[], flags: Flags): string[] {
  const byWritten = new Map<string, string>();
  for (const [name, flag] of Object.entries(flags)) {
    byWritten.set(`--${kebab(name)}`, name);
    for (const alias of aliasesOf(flag)) byWritten.set(dashed(alias), name);
    if (flag.kind === "switch") byWritten.set(`--no-${kebab(name)}`, name);
  }
  const result: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const argument = args[i];
    if (argument === "--") return [...result, ...args.slice(i)];
    if (!isFlagLike(argument)) {
      result.push(argument);
      continue;
    }
    const [written, attached] = splitAtEquals(argument);
    const name = byWritten.get(written);
    if (name === undefined) throw unknownFlag(written, [...byWritten.keys()]);
    const canonicalName = `--${kebab(name)}`;
    if (flags[name].kind === "switch") {
      if (attached !== undefined && attached !== "true" && attached !== "false") {
        throw new ArgumentError(`Cannot use ${argument}: ${written} takes no value`, { argument: written });
      }
      const isNegated = written === `--no-${kebab(name)}`;
      result.push(`${canonicalName}=${isNegated !== (attached !== "false")}`);
      continue;
    }
    const value = attached ?? args[++i];
    const isMissing = value === undefined ||
      (attached === undefined && (value.startsWith("--") || byWritten.has(value)));
    if (isMissing) {
      throw new ArgumentError(
        `Cannot use ${written} without a value: write ${written} ${placeholderOf(flags[name])}` +
          (value === undefined ? "" : `, or ${written}=${value} if "${value}" is its value`),
        { argument: written },
      );
    }
    result.push(`${canonicalName}=${value}`);
  }
  return result;
}

/** Whether an argument is a flag: "-" alone (standard input) and negative numbers are not. */
function isFlagLike(argument: string): boolean {
  return argument.startsWith("-") && argument !== "-" && !/^-\.?\d/.test(argument);
}

function splitAtEquals(argument: string): [written: string, value: string | undefined] {
  const at = argument.indexOf("=");
  return at < 0 ? [argument, undefined] : [argument.slice(0, at), argument.slice(at + 1)];
}

function unknownFlag(written: string, known: string[]): ArgumentError {
  // Compare long names only: "-steps" more likely means "--steps" than "-s".
  const meant = nearest(`--${written.replace(/^-+/, "")}`, known.filter((flag) => flag.startsWith("--")));
  const advice = meant === undefined ? "--help lists all flags" : `did you mean ${meant}?`;
  return new ArgumentError(`Cannot use ${written} as this command has no such flag: ${advice}`, { argument: written });
}

function defaultOf(name: string, flag: Flag): unknown {
  if ("required" in flag && flag.required) {
    const [short] = aliasesOf(flag).filter((alias) => alias.length === 1);
    const written = short === undefined ? `--${kebab(name)}` : `-${short} or --${kebab(name)}`;
    throw new ArgumentError(`Cannot go on without ${written}: ${flag.help}`, { argument: `--${kebab(name)}` });
  }
  if (flag.kind === "switch") return flag.default ?? false;
  if (flag.kind === "texts") return [...flag.default ?? []];
  return flag.default;
}

/** The checked value of a given flag. */
function checked(name: string, flag: Flag, value: string | string[]): unknown {
  if (typeof value !== "string") return value;
  if (flag.kind === "switch") return value === "true";
  return flag.kind === "text" ? checkedText(name, flag, value) : checkedNumber(name, flag as NumberFlag, value);
}

function checkedText(name: string, flag: TextFlag, text: string): string {
  if (flag.choices === undefined || flag.choices.includes(text)) return text;
  const meant = nearest(text, flag.choices);
  const advice = meant === undefined ? "" : ` (did you mean ${meant}?)`;
  throw rejected(name, text, `${flag.choices.join(", ")}${advice}`);
}

function checkedNumber(name: string, flag: NumberFlag, text: string): number {
  const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
  const { min = -Infinity, max = Infinity, above = -Infinity, multipleOf } = flag;
  const isAccepted = Number.isFinite(number) && number >= min && number <= max && number > above &&
    (flag.kind === "number" || Number.isSafeInteger(number)) &&
    (multipleOf === undefined || number % multipleOf === 0);
  if (!isAccepted) throw rejected(name, text, describe(flag));
  return number;
}

function rejected(name: string, text: string, takes: string): ArgumentError {
  const written = `--${kebab(name)}`;
  return new ArgumentError(`Cannot use ${written} ${JSON.stringify(text)}: it takes ${takes}`, { argument: written });
}

/** "a whole number, at least 8, a multiple of 8" */
function describe(flag: NumberFlag): string {
  const parts = [flag.kind === "whole" ? "a whole number" : "a number"];
  if (flag.above !== undefined) parts.push(`above ${flag.above}`);
  if (flag.min !== undefined) parts.push(`at least ${flag.min}`);
  if (flag.max !== undefined) parts.push(`at most ${flag.max}`);
  if (flag.multipleOf !== undefined) parts.push(`a multiple of ${flag.multipleOf}`);
  return parts.join(", ");
}

function placeholderOf(flag: Exclude<Flag, SwitchFlag>): string {
  if (flag.placeholder !== undefined) return flag.placeholder;
  if (flag.kind === "whole" || flag.kind === "number") return "N";
  return flag.kind === "text" && flag.choices !== undefined ? flag.choices.join("|") : "TEXT";
}

/**
 * The end of a flag's help line: whether it is required or repeatable, and its default.
 */
function remarks(name: string, flag: Flag): string {
  if (flag.kind === "switch") return flag.default ? ` (default: on; --no-${kebab(name)} turns it off)` : "";
  const parts: string[] = [];
  if (flag.required) parts.push("required");
  else if (typeof flag.default === "object" && flag.default.length > 0) {
    parts.push(`default: ${flag.default.join(", ")}`);
  } else if (typeof flag.default !== "object" && flag.default !== undefined && flag.default !== "") {
    parts.push(`default: ${flag.default}`);
  }
  if (flag.kind === "texts") parts.push("repeatable");
  return parts.length === 0 ? "" : ` (${parts.join("; ")})`;
}
