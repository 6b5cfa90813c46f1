/**
 * Typed command line flags. A command declares its flags in one table; parsing, checks, suggestions
 * for misspelled names, help and shell completion all derive from it.
 *
 * @module
 */
import { ArgumentError } from "./argument_error.ts";
import { type Flag, type Flags, kebab, type Positionals, spellings, type Values } from "./flag_types.ts";
import { checkedValue, defaultValue, unknownFlag, valueMissing } from "./flag_values.ts";

export { ArgumentError } from "./argument_error.ts";
export type * from "./flag_types.ts";
export { helpOfFlags } from "./help.ts";

/** The result of {@linkcode parseArguments}. */
export interface Parsed<F extends Flags> {
  readonly values: Values<F>;
  /** The arguments that are not flags or their values. */
  readonly positionals: string[];
  /** The flags that were given on the command line. */
  readonly given: ReadonlySet<keyof F>;
  /** The flags whose seed was drawn, since -1 was given. */
  readonly drawn: readonly string[];
}

/**
 * Parses the arguments of a command. A value follows its flag after a space; it may be a negative
 * number or empty. Values that begin with `--` are written `--flag=--value`. A flag of many values
 * takes all words up to the next flag. All arguments after `--` are positional.
 *
 * @throws {ArgumentError} Where a flag is not declared, is given twice though it takes one value,
 *   lacks its value, or has a value that is not accepted.
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
  const { texts, positionals } = sorted(args, flags);
  const values: Record<string, unknown> = {};
  const drawn: string[] = [];
  for (const [name, flag] of Object.entries(flags)) {
    const given = texts.get(name);
    if (given === undefined) values[name] = defaultValue(name, flag);
    else if (flag.kind === "texts") values[name] = given;
    else {
      values[name] = checkedValue(name, flag, given[0]);
      if (flag.kind === "seed" && /^-0*1$/.test(given[0])) drawn.push(name);
    }
  }
  checkPositionals(positionals, options.positionals ?? { placeholder: "", min: 0, max: 0 });
  return {
    values: values as Values<F>,
    positionals,
    given: new Set(texts.keys()) as ReadonlySet<keyof F>,
    drawn,
  };
}

/** Sorts arguments into the texts of each flag, in their order, and positionals. */
function sorted(args: readonly string[], flags: Flags): { texts: Map<string, string[]>; positionals: string[] } {
  const byWritten = new Map<string, string>();
  for (const [name, flag] of Object.entries(flags)) {
    for (const written of spellings(name, flag)) byWritten.set(written, name);
  }
  const texts = new Map<string, string[]>();
  const positionals: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const argument = args[i];
    if (argument === "--") {
      positionals.push(...args.slice(i + 1));
      break;
    }
    if (!isFlagLike(argument)) {
      positionals.push(argument);
      continue;
    }
    const [written, attached] = splitAtEquals(argument);
    const name = byWritten.get(written);
    if (name === undefined) throw unknownFlag(written, [...byWritten.keys()]);
    const flag = flags[name];
    let text = attached;
    if (flag.kind === "switch") text = switchText(argument, { written, attached, isNegation: `--no-${kebab(name)}` });
    else if (attached === undefined) {
      const next: string | undefined = args[i + 1];
      const isValue = next !== undefined && !next.startsWith("--") && !byWritten.has(next);
      if (isValue) i++;
      else if (flag.kind !== "text" || flag.bare === undefined) throw valueMissing(written, flag, next);
      text = isValue ? next : (flag as { bare: string }).bare;
    }
    texts.set(name, collected(texts.get(name), text!, { flag, written }));
    if (flag.kind !== "texts" || !flag.many) continue;
    while (i + 1 < args.length && !isFlagLike(args[i + 1])) texts.get(name)!.push(args[++i]);
  }
  return { texts, positionals };
}

/** Adds a text to those of a flag; only some flags take several. */
function collected(
  before: string[] | undefined,
  text: string,
  { flag, written }: { flag: Flag; written: string },
): string[] {
  if (before === undefined) return [text];
  if (flag.kind === "texts") return [...before, text];
  // The last word counts for a switch, so that --no-name can take back what an alias adds.
  if (flag.kind === "switch" || before[0] === text) return [text];
  throw new ArgumentError(
    `Cannot use ${written} twice (${JSON.stringify(before[0])}, then ${JSON.stringify(text)}): give it once`,
    { argument: written },
  );
}

/** "true" or "false". */
function switchText(
  argument: string,
  { written, attached, isNegation }: { written: string; attached?: string; isNegation: string },
): string {
  if (attached !== undefined && attached !== "true" && attached !== "false") {
    throw new ArgumentError(`Cannot use ${argument}: ${written} takes no value`, { argument: written });
  }
  return String((written === isNegation) !== (attached !== "false"));
}

/** @throws {ArgumentError} where there are too many or too few */
function checkPositionals(positionals: readonly string[], { placeholder, min, max }: Positionals): void {
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
}

/** Whether an argument is a flag: "-" alone (standard input) and negative numbers are not. */
function isFlagLike(argument: string): boolean {
  return argument.startsWith("-") && argument !== "-" && !/^-\.?\d/.test(argument);
}

function splitAtEquals(argument: string): [written: string, value: string | undefined] {
  const at = argument.indexOf("=");
  return at < 0 ? [argument, undefined] : [argument.slice(0, at), argument.slice(at + 1)];
}
