/**
 * Flags that select an editor and its settings.
 *
 * @module
 */
import { type EditMethod, type MethodOptions, methodSettings, takesValue } from "../pipeline/editing/prompts/method.ts";
import { EditError, OptionError } from "../pipeline/errors.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Flags, kebab, type Values } from "./flag_types.ts";
import { inFlags } from "./option_flags.ts";

/** The flags of `bluerose edit` that depend on its method. */
export const methodFlags = {
  method: {
    kind: "text",
    choices: ["time", "uce", "nullspace"],
    default: "time",
    group: "Edit",
    help: "editor: TIME, Unified Concept Editing, or SPEED's null-space editing (docs/editors.md compares them)",
  },
  lambda: {
    kind: "number",
    alias: "lamb",
    min: 0,
    defaultText: "0.1; 0.5 for uce, 0 for nullspace",
    group: "Edit",
    help: "regularization strength: larger values change everything else less",
  },
  tokens: {
    kind: "text",
    choices: ["all", "last"],
    defaultText: "all for time, last for the others",
    group: "Edit",
    help: "tokens that are paired: all, or the last subject token of each prompt, which needs no common words",
  },
  eraseScale: { kind: "number", above: 0, defaultText: "1", group: "Edit", help: "weight of the pairs (uce)" },
  preserveScale: {
    kind: "number",
    above: 0,
    defaultText: "1",
    group: "Edit",
    help: "weight of the preserved prompts (uce)",
  },
  threshold: {
    kind: "number",
    above: 0,
    defaultText: "0.1",
    group: "Edit",
    help: "directions that preserved prompts use less than this are free to be edited (nullspace)",
  },
  retainScale: {
    kind: "number",
    above: 0,
    defaultText: "1",
    group: "Edit",
    help: "weight of the penalty on changes (nullspace)",
  },
  invariant: {
    kind: "texts",
    group: "Edit",
    help: "prompt none of whose states may move (nullspace)",
  },
  influenceFilter: {
    kind: "switch",
    group: "Edit",
    help: "retain in each layer only the preserved prompts that erasing alone would move there (nullspace)",
  },
  augment: {
    kind: "whole",
    min: 0,
    defaultText: "0",
    group: "Edit",
    help: "perturbed copies of each preserved prompt that are retained, too, in each layer others (nullspace)",
  },
  augmentRank: {
    kind: "whole",
    min: 1,
    defaultText: "1",
    group: "Edit",
    help: "number of directions in which the copies of --augment are perturbed (nullspace)",
  },
} as const satisfies Flags;

type MethodValues = Values<typeof methodFlags>;

/**
 * The options of each of several methods: those flags whose value it takes. A value that none takes
 * is refused.
 *
 * @throws {ArgumentError} as {@linkcode methodOfFlags}
 */
export function methodsOfFlags(
  methods: readonly EditMethod[],
  values: MethodValues & { readonly preserveWeight: number },
): MethodOptions[] {
  const given = ownOptions.filter((option) => isGiven(values[option]));
  for (const option of given) {
    // no method takes it: the message of the first one says whose it is
    if (!methods.some((method) => takesValue(method, option, values[option]))) {
      methodOfFlags({ ...values, method: methods[0] });
    }
  }
  return methods.map((method) => {
    const others = given.filter((option) => !takesValue(method, option, values[option]));
    const none = Object.fromEntries(others.map((option) => [option, option === "invariant" ? [] : undefined]));
    return methodOfFlags({ ...values, ...none, method });
  });
}

/** The options that only some methods take, or of which some take only one value. */
const ownOptions = [
  "tokens",
  "eraseScale",
  "preserveScale",
  "threshold",
  "retainScale",
  "invariant",
  "influenceFilter",
  "augment",
  "augmentRank",
] as const;

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0);
}

/**
 * The options of the chosen method, checked before a model is loaded.
 *
 * @throws {ArgumentError} for a flag of another method, or a value out of range
 */
export function methodOfFlags(values: MethodValues & { readonly preserveWeight: number }): MethodOptions {
  const { method, lambda: lamb, tokens, eraseScale, preserveScale, threshold, retainScale, preserveWeight } = values;
  const { augment, augmentRank } = values;
  const influenceFilter = values.influenceFilter ? true : undefined;
  const invariant = values.invariant.length > 0 ? values.invariant : undefined;
  const options = {
    method,
    tokens,
    lamb,
    eraseScale,
    preserveScale,
    threshold,
    retainScale,
    invariant,
    influenceFilter,
    augment,
    augmentRank,
    preserveWeight,
  };
  try {
    methodSettings(options);
  } catch (cause) {
    if (!(cause instanceof OptionError || cause instanceof EditError)) throw cause;
    const option = cause instanceof OptionError ? cause.option : "lambda";
    throw new ArgumentError(inFlags(cause.message), { argument: `--${kebab(option)}`, cause });
  }
  return options;
}
