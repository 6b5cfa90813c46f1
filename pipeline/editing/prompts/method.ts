/** The closed-form editors, and the settings that each of them takes. @module */

import { EditError, OptionError } from "../../errors.ts";
import { nearest } from "../../nearest.ts";
import { shown } from "../../options.ts";
import { LambdaError, largestLambda } from "../errors.ts";
import { defaultAugmentations } from "./alignment.ts";

/**
 * A closed-form editor: "time" (TIME, arXiv 2303.08084), "uce" (Unified Concept Editing, arXiv
 * 2308.14761) or "nullspace" (SPEED, arXiv 2503.07392).
 */
export type EditMethod = "time" | "uce" | "nullspace";

/** All methods, the default first. */
export const editMethods: readonly EditMethod[] = ["time", "uce", "nullspace"];

/**
 * Which tokens of a prompt are rows of the edit: "all" positions, or the "last" subject token, the
 * one before the end token.
 */
export type RowTokens = "all" | "last";

/** The options of an edit that depend on its method. */
export interface MethodOptions {
  /** The editor. Default: "time". */
  readonly method?: EditMethod;
  /**
   * Which tokens are rows. "all" pairs the tokens of source and destination, which must be the
   * source with words added. "last" pairs their last tokens, whatever the words are. Default: "all"
   * for "time", "last" for "uce"; "nullspace" takes "last" only.
   */
  readonly tokens?: RowTokens;
  /**
   * Regularization λ: larger values change the model less. Default: 0.1 for "time", as in the
   * paper; 0.5 for "uce"; 0 for "nullspace", where it lets the invariant states move.
   */
  readonly lamb?: number;
  /**
   * Prefixes of the prompts; each gives every pair another sentence. Default: diffusers' three for
   * "time", none for the others.
   */
  readonly withAugs?: readonly string[];
  /** Weight ωᵢ of the rows of preserved prompts, for "time" and "uce". Default: 1. */
  readonly preserveWeight?: number;
  /** Weight e of all pairs, for "uce". Default: 1. */
  readonly eraseScale?: number;
  /** Weight p of all preserved prompts, for "uce". Default: 1. */
  readonly preserveScale?: number;
  /**
   * For "nullspace": directions in which the mean of r rᵀ over the preserved prompts has an
   * eigenvalue below this are free to be edited. Default: 0.1.
   */
  readonly threshold?: number;
  /** For "nullspace": weight s of the penalty on changing the model. Default: 1. */
  readonly retainScale?: number;
  /**
   * For "nullspace": prompts none of whose states may move, in addition to the begin token.
   * Default: none.
   */
  readonly invariant?: readonly string[];
  /**
   * For "nullspace": retain only those preserved prompts that erasing alone would move more than
   * the mean (SPEED's filter by influence). It depends on a layer's weights, so the edit may have
   * several operators, each for some layers. Default: false.
   */
  readonly influenceFilter?: boolean;
  /**
   * For "nullspace": perturbed copies of each preserved prompt, along directions that the layer's
   * weights shrink most (SPEED's directed augmentation). Each layer then has an operator of its
   * own. Default: 0.
   */
  readonly augment?: number;
  /** For "nullspace": number of those directions. Default: 1. */
  readonly augmentRank?: number;
}

/** The options that have one value each beside λ, in the order in which settings are named. */
export const namedOptions = [
  "tokens",
  "preserveWeight",
  "eraseScale",
  "preserveScale",
  "threshold",
  "retainScale",
  "influenceFilter",
  "augment",
  "augmentRank",
] as const;

/** The options of a method with defaults filled in. Those of other methods are undefined. */
export type MethodSettings =
  & { readonly lamb: number; readonly withAugs: readonly string[]; readonly preserveWeight: number }
  & (
    | { readonly method: "time"; readonly tokens: RowTokens }
    | {
      readonly method: "uce";
      readonly tokens: RowTokens;
      readonly eraseScale: number;
      readonly preserveScale: number;
    }
    | {
      readonly method: "nullspace";
      readonly tokens: "last";
      readonly threshold: number;
      readonly retainScale: number;
      readonly invariant: readonly string[];
      /** Absent where retained prompts are not refined by layer. */
      readonly influenceFilter?: boolean;
      readonly augment?: number;
      readonly augmentRank?: number;
    }
  );

/** Names under which the methods are known elsewhere. */
const otherNames: Readonly<Record<string, EditMethod>> = { speed: "nullspace", alphaedit: "nullspace" };

/**
 * Checks the name of a method.
 *
 * @throws {OptionError} for an unknown one, with the nearest one
 */
export function checkMethod(method: unknown): void {
  if (method === undefined || editMethods.some((known) => known === method)) return;
  const plain = typeof method === "string" ? method.toLowerCase().replace(/[^a-z]/g, "") : "";
  const meant = Object.hasOwn(otherNames, plain) ? otherNames[plain] : plain && nearest(plain, editMethods);
  const list = editMethods.map((known) => JSON.stringify(known)).join(", ");
  throw new OptionError(
    `Cannot edit by the method ${shown(method)} as there is none: ${
      meant ? `did you mean ${JSON.stringify(meant)}? ` : ""
    }the methods are ${list}`,
    { option: "method", value: method },
  );
}

/** Whether an edit pairs the last tokens of prompts, so that they need no common words. */
export function pairsLast({ method = "time", tokens }: Pick<MethodOptions, "method" | "tokens">): boolean {
  return (tokens ?? (method === "time" ? "all" : "last")) === "last";
}

/** The options that only some methods take. */
const methodsOf: Readonly<Partial<Record<keyof MethodOptions, readonly EditMethod[]>>> = {
  eraseScale: ["uce"],
  preserveScale: ["uce"],
  threshold: ["nullspace"],
  retainScale: ["nullspace"],
  invariant: ["nullspace"],
  influenceFilter: ["nullspace"],
  augment: ["nullspace"],
  augmentRank: ["nullspace"],
};

/** The only value that a method takes of an option, and why. */
const onlyValues: Readonly<Partial<Record<EditMethod, Partial<Record<keyof MethodOptions, OnlyValue>>>>> = {
  nullspace: {
    tokens: {
      value: "last",
      reason: 'its rows are the last tokens of the prompts. Leave tokens out, or set it to "last"',
    },
    preserveWeight: {
      value: 1,
      reason: "all preserved prompts count alike. Lower threshold to keep them more firmly",
    },
  },
};

interface OnlyValue {
  readonly value: unknown;
  readonly reason: string;
}

/** Whether an option is one of a method. */
export function takesOption(method: EditMethod, option: keyof MethodOptions): boolean {
  return methodsOf[option]?.includes(method) ?? true;
}

/** Whether a method takes an option, and this value of it. */
export function takesValue(method: EditMethod, option: keyof MethodOptions, value: unknown): boolean {
  const only = onlyValues[method]?.[option];
  return takesOption(method, option) && (only === undefined || only.value === value);
}

/**
 * Refuses a value of an option that none of some methods takes.
 *
 * @throws {OptionError} with the methods that take the option, or the value that is taken
 */
export function checkTaken(option: keyof MethodOptions, value: unknown, methods: readonly EditMethod[]): void {
  if (methods.some((method) => takesValue(method, option, value))) return;
  if (methods.length === 0) throw withoutEdit(option, value);
  const taking = methods.find((method) => takesOption(method, option));
  if (taking !== undefined) {
    throw new OptionError(
      `Cannot edit by the method ${JSON.stringify(taking)} with ${option} ${shown(value)}: ${
        onlyValues[taking]?.[option]?.reason
      }`,
      { option, value },
    );
  }
  const names = (list: readonly EditMethod[]) => list.map((name) => JSON.stringify(name)).join(", ");
  throw new OptionError(
    `Cannot edit by the method ${names(methods)} with ${option} as it is an option of the method ${
      names(methodsOf[option] ?? editMethods)
    }: ${shown(value)}`,
    { option, value },
  );
}

/** The error for an option of edits where none is solved. */
export function withoutEdit(option: string, value: unknown): OptionError {
  return new OptionError(`Cannot use ${option} without an edit: ${shown(value)}`, { option, value });
}

/** Whether an edit may map the pooled embedding: its layers must share one operator. */
export function takesPooled({ influenceFilter, augment = 0 }: MethodOptions): boolean {
  return !influenceFilter && augment === 0;
}

/**
 * Refuses to map the pooled embedding by a method whose operators differ between layers.
 *
 * @throws {EditError} with `influenceFilter` or `augment`
 */
export function checkPooled(options: MethodOptions): void {
  if (takesPooled(options)) return;
  throw new EditError(
    "Cannot edit the pooled embedding with influenceFilter or augment as it belongs to no layer: leave withPooled out",
  );
}

/**
 * Fills in the defaults of a method and checks its options.
 *
 * @throws {OptionError} for an unknown method, or an option of another method
 * @throws {LambdaError} {EditError} for a value out of range
 */
export function methodSettings(options: MethodOptions): MethodSettings {
  checkMethod(options.method);
  const { method = "time", preserveWeight = 1 } = options;
  checkScale("preserveWeight", preserveWeight);
  for (const option of [...Object.keys(methodsOf), "tokens", "preserveWeight"] as (keyof MethodOptions)[]) {
    if (options[option] !== undefined && options[option] !== false) checkTaken(option, options[option], [method]);
  }
  const lamb = options.lamb ?? { time: 0.1, uce: 0.5, nullspace: 0 }[method];
  const allowsZero = method === "nullspace";
  if (!((allowsZero ? lamb >= 0 : lamb > 0) && lamb <= largestLambda)) throw new LambdaError(lamb, { allowsZero });
  const withAugs = [...options.withAugs ?? (method === "time" ? defaultAugmentations : [])];
  const common = { lamb, withAugs, preserveWeight };
  if (method === "time") return { ...common, method, tokens: options.tokens ?? "all" };
  if (method === "uce") {
    const { tokens = "last", eraseScale = 1, preserveScale = 1 } = options;
    checkScale("eraseScale", eraseScale);
    checkScale("preserveScale", preserveScale);
    return { ...common, method, tokens, eraseScale, preserveScale };
  }
  const { threshold = 0.1, retainScale = 1, invariant = [] } = options;
  checkScale("threshold", threshold);
  checkScale("retainScale", retainScale);
  return { ...common, method, tokens: "last", threshold, retainScale, invariant: [...invariant], ...refined(options) };
}

/** How retained prompts are refined by layer; nothing where they are not. */
function refined({ influenceFilter = false, augment = 0, augmentRank = 1 }: MethodOptions) {
  for (const [option, value, least] of [["augment", augment, 0], ["augmentRank", augmentRank, 1]] as const) {
    if (Number.isSafeInteger(value) && value >= least) continue;
    throw new EditError(`Cannot edit with ${option} ${value}: it must be a whole number from ${least}`);
  }
  return influenceFilter || augment > 0 ? { influenceFilter, augment, augmentRank } : {};
}

function checkScale(option: string, value: number): void {
  if (Number.isFinite(value) && value > 0) return;
  throw new EditError(`Cannot edit with ${option} ${value}: it must be a finite number above 0`);
}
