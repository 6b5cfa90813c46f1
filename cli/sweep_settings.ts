/**
 * Flags of the settings that a sweep compares.
 *
 * @module
 */
import { type EditMethod, editMethods, type RowTokens } from "../pipeline/editing/prompts/method.ts";
import {
  type SettingGrid,
  settingsOfGrid,
  type SweepMethod,
  type SweepSetting,
} from "../pipeline/evaluation/sweep/settings.ts";
import { EditError, OptionError } from "../pipeline/errors.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Flags, kebab, type Values } from "./flag_types.ts";
import { parseNumber } from "./flag_values.ts";
import { nearest } from "./nearest.ts";
import { inFlags } from "./option_flags.ts";

const choiceFlag = {
  kind: "text",
  choices: ["no", "yes", "both"],
  bare: "yes",
  default: "no",
  group: "Settings",
} as const;

/** A number of an editor's option; several are compared. */
const numbersFlag = { kind: "texts", many: true, placeholder: "N…", group: "Settings" } as const;

/** The flags of `sweep plan` that make its settings. */
export const settingFlags = {
  method: {
    kind: "texts",
    many: true,
    placeholder: "METHOD…",
    group: "Settings",
    defaultText: "time",
    help:
      "time, uce, nullspace: the model as edited by that editor; baseline: the unedited model; oracle: the unedited model, prompted with the " +
      "destination; several are compared, as in --method baseline time uce",
  },
  lambda: {
    ...numbersFlag,
    defaultText: "0.1; 0.5 for uce, 0 for nullspace",
    help: "regularization λ of the edits: larger values change less; METHOD=N sets that of one method",
  },
  valuesOnly: {
    ...choiceFlag,
    help: "edit only the value projections, not the key projections; both compares the two",
  },
  withPooled: {
    ...choiceFlag,
    help: "map the pooled embedding of SDXL's second text encoder, too; both compares the two",
  },
  preserve: {
    ...choiceFlag,
    help:
      "preserve the prompts that the data set and --preserve-file list (nullspace always does); both compares the two",
  },
  preserveFile: {
    kind: "text",
    placeholder: "FILE",
    group: "Settings",
    help: "text file with one prompt per line that all edits preserve, but for those with words of their source",
    access: { kind: "read", purpose: "read the prompts to preserve" },
  },
  tokens: {
    kind: "texts",
    many: true,
    placeholder: "all|last…",
    group: "Settings",
    defaultText: "all for time, last for the others",
    help: "tokens that are paired; nullspace pairs the last ones only",
  },
  eraseScale: { ...numbersFlag, defaultText: "1", help: "weight of the pairs (uce)" },
  preserveScale: { ...numbersFlag, defaultText: "1", help: "weight of the preserved prompts (uce)" },
  threshold: {
    ...numbersFlag,
    defaultText: "0.1",
    help: "directions that preserved prompts use less than this are free to be edited (nullspace)",
  },
  retainScale: { ...numbersFlag, defaultText: "1", help: "weight of the penalty on changes (nullspace)" },
  invariant: { kind: "texts", group: "Settings", help: "prompt none of whose states may move (nullspace)" },
  influenceFilter: {
    ...choiceFlag,
    help:
      "retain in each layer only the preserved prompts that erasing alone would move there (nullspace); both compares the two",
  },
  augment: {
    ...numbersFlag,
    defaultText: "0",
    help: "perturbed copies of each preserved prompt that are retained, too (nullspace)",
  },
} as const satisfies Flags;

type SettingValues = Values<typeof settingFlags>;

/**
 * The settings that the flags ask for.
 *
 * @throws {ArgumentError} for an unknown method, an option of other methods, or a value out of
 *   range
 */
export function settingsOfFlags(values: SettingValues): SweepSetting[] {
  const { invariant } = values;
  const numbers = (flag: "eraseScale" | "preserveScale" | "threshold" | "retainScale") =>
    values[flag].map((text) => parseNumber(text, `--${kebab(flag)}`, { kind: "number", above: 0 }));
  const methods = values.method.length > 0 ? values.method.map(methodOf) : ["time" as const];
  const grid: SettingGrid = {
    methods,
    lambdas: lambdasOf(values.lambda, methods),
    withToK: switched(values.valuesOnly).map((valuesOnly) => !valuesOnly),
    withPooled: switched(values.withPooled),
    preserve: switched(values.preserve),
    tokens: values.tokens.map(tokensOf),
    eraseScale: numbers("eraseScale"),
    preserveScale: numbers("preserveScale"),
    threshold: numbers("threshold"),
    retainScale: numbers("retainScale"),
    invariant,
    // "no" is the default, which editors without the option have, too
    influenceFilter: values.influenceFilter === "no" ? [] : switched(values.influenceFilter),
    augment: values.augment.map((text) => parseNumber(text, "--augment", { kind: "whole", min: 0 })),
  };
  try {
    return settingsOfGrid(grid);
  } catch (cause) {
    if (!(cause instanceof OptionError || cause instanceof EditError)) throw cause;
    // edits of values only are those without keys
    if (cause instanceof OptionError && cause.option === "withToK") {
      throw new ArgumentError("Cannot use --values-only without an edit", { argument: "--values-only", cause });
    }
    const option = cause instanceof OptionError ? cause.option : "lambda";
    throw new ArgumentError(inFlags(cause.message), { argument: `--${kebab(option)}`, cause });
  }
}

const otherMethods = ["edit", "baseline", "oracle"] as const;

function methodOf(text: string): EditMethod | SweepMethod {
  const known = [...editMethods, ...otherMethods];
  const method = known.find((each) => each === text);
  if (method !== undefined) return method;
  const meant = nearest(text, known);
  throw new ArgumentError(
    `Cannot use --method ${JSON.stringify(text)}: it takes ${editMethods.join(", ")}, baseline or oracle${
      meant === undefined ? "" : ` (did you mean ${meant}?)`
    }`,
    { argument: "--method" },
  );
}

function tokensOf(text: string): RowTokens {
  if (text === "all" || text === "last") return text;
  throw new ArgumentError(`Cannot use --tokens ${JSON.stringify(text)}: it takes all or last`, {
    argument: "--tokens",
  });
}

/** λ of each method: `0.1` for all that have none of their own, `uce=0.5` for one. */
function lambdasOf(
  texts: readonly string[],
  methods: readonly (EditMethod | SweepMethod)[],
): Partial<Record<EditMethod, number[]>> {
  const own: Partial<Record<EditMethod, number[]>> = {}, common: number[] = [];
  if (texts.length > 0 && methods.every((method) => method === "baseline" || method === "oracle")) {
    throw new ArgumentError(`Cannot use --lambda without an edit: ${texts.join(" ")}`, { argument: "--lambda" });
  }
  for (const text of texts) {
    const [, name, value] = /^([a-z]+)=(.*)$/.exec(text) ?? [undefined, undefined, text];
    const method = editMethods.find((each) => each === name);
    if (name !== undefined && !(method !== undefined && methods.some((each) => each === method))) {
      throw new ArgumentError(
        `Cannot use --lambda ${JSON.stringify(text)}: ${JSON.stringify(name)} is no editor of --method; ` +
          "it takes a number, or METHOD=N for one of them",
        { argument: "--lambda" },
      );
    }
    const takes = "a number from 0 (above 0 but for nullspace), or METHOD=N";
    const lambda = parseNumber(value, "--lambda", { kind: "number", min: 0, takes });
    if (method === undefined) common.push(lambda);
    else own[method] = [...own[method] ?? [], lambda];
  }
  return Object.fromEntries(editMethods.map((method) => [method, own[method] ?? common]));
}

function switched(choice: string): boolean[] {
  return choice === "both" ? [false, true] : [choice === "yes"];
}
