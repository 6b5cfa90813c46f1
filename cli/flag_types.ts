/**
 * Declarations of command line flags, and the types of their values.
 *
 * @module
 */
import type { Access } from "./permissions.ts";

/** What all flags have. */
export interface FlagBase {
  /** A sentence for the help, without its default. */
  readonly help: string;
  /** Other names: one letter (`-p`) or more (`--prompts`). */
  readonly alias?: string | readonly string[];
  /** Stands for the value in the help, as in `--steps N`. */
  readonly placeholder?: string;
  /** Heading of the flag in the help. */
  readonly group?: string;
  /** What the help says of the default in place of the value itself. */
  readonly defaultText?: string;
}

/** A flag with a text value. */
export interface TextFlag extends FlagBase {
  /** Selects the kind of value. */
  readonly kind: "text";
  /** The value of an absent flag. */
  readonly default?: string;
  /** Whether the flag must be given. */
  readonly required?: boolean;
  /** The accepted texts. Default: any. */
  readonly choices?: readonly string[];
  /** Values that shells complete; others are accepted too. */
  readonly suggestions?: readonly string[];
  /** The value of the flag when it is written without one. Default: a value is required. */
  readonly bare?: string;
  /** What the path is for, if the value is one; permission is asked for before the work. */
  readonly access?: Access;
  /**
   * Whether values may name files that are read, though others do not name files: FILE:WEIGHT,
   * OWNER/NAME. No flag writes to a file that another one reads.
   */
  readonly mayRead?: boolean;
}

/** A flag that may be given several times, each with a text. */
export interface TextsFlag extends FlagBase {
  /** Selects the kind of value. */
  readonly kind: "texts";
  /** Whether it takes all words up to the next flag. For commands without other arguments. */
  readonly many?: boolean;
  /** The value of an absent flag. */
  readonly default?: readonly string[];
  /** Whether the flag must be given. */
  readonly required?: boolean;
  /** As {@linkcode TextFlag}'s. */
  readonly access?: Access;
  /**
   * Whether values may name files that are read, though others do not name files: FILE:WEIGHT,
   * OWNER/NAME. No flag writes to a file that another one reads.
   */
  readonly mayRead?: boolean;
}

/** A flag with a number; `whole` accepts integers only. */
export interface NumberFlag extends FlagBase {
  /** Selects the kind of value. */
  readonly kind: "number" | "whole";
  /** The value of an absent flag. */
  readonly default?: number;
  /** Whether the flag must be given. */
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

/** A flag with a seed: 0 to 2⁶⁴ − 1, or -1 for a random one. */
export interface SeedFlag extends FlagBase {
  /** Selects the kind of value. */
  readonly kind: "seed";
  /** The value of an absent flag. */
  readonly default: bigint;
  /** Largest accepted seed. Default: 2⁶⁴ − 1. */
  readonly max?: bigint;
}

/** A flag with two whole numbers, written together: `--size 1024x768`. */
export interface PairFlag extends FlagBase {
  /** Selects the kind of value. */
  readonly kind: "pair";
  /** Stands between the numbers. */
  readonly separator: string;
}

/** A flag without a value: `--name` turns it on, `--no-name` off. */
export interface SwitchFlag extends FlagBase {
  /** Selects the kind of value. */
  readonly kind: "switch";
  /** The value of an absent flag. */
  readonly default?: boolean;
}

/** A declared flag. */
export type Flag = TextFlag | TextsFlag | NumberFlag | SeedFlag | PairFlag | SwitchFlag;

/** Flags by their names in code: `cfgScale` is `--cfg-scale` on the command line. */
export type Flags = Readonly<Record<string, Flag>>;

type Certain<F, V> = F extends { default: unknown } | { required: true } ? V : V | undefined;

type Value<F extends Flag> = F extends SwitchFlag ? boolean
  : F extends SeedFlag ? bigint
  : F extends PairFlag ? readonly [number, number] | undefined
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
  /** Fewest arguments. */
  readonly min: number;
  /** Most arguments. */
  readonly max: number;
  /** What the paths are for, if they are paths. */
  readonly access?: Access;
}

/** A flag's name on the command line, without dashes. */
export function kebab(name: string): string {
  return name.replace(/[A-Z]|\d+$/g, (part) => `-${part.toLowerCase()}`);
}

/** The other names of a flag, without dashes. */
export function aliasesOf(flag: Flag): readonly string[] {
  return typeof flag.alias === "string" ? [flag.alias] : flag.alias ?? [];
}

/** A name as it is written: `-p`, `--prompt`. */
export function dashed(alias: string): string {
  return alias.length === 1 ? `-${alias}` : `--${alias}`;
}

/** All spellings of a flag: long names first, then letters; a switch also has its negation. */
export function spellings(name: string, flag: Flag): string[] {
  const all = [`--${kebab(name)}`, ...aliasesOf(flag).map(dashed)];
  return flag.kind === "switch" ? [...all, `--no-${kebab(name)}`] : all;
}

/** Stands for a flag's value in the help. */
export function placeholderOf(flag: Exclude<Flag, SwitchFlag>): string {
  if (flag.placeholder !== undefined) return flag.placeholder;
  if (flag.kind === "whole" || flag.kind === "number" || flag.kind === "seed") return "N";
  if (flag.kind === "pair") return `N${flag.separator}N`;
  return flag.kind === "text" && flag.choices !== undefined ? flag.choices.join("|") : "TEXT";
}
