/**
 * Validates options at run time, for JavaScript callers without a type checker. Every function with
 * an options object uses {@linkcode checkOptions}.
 *
 * @module
 */

import { OptionError } from "./errors.ts";
import { nearest } from "./nearest.ts";
import { shown as shownJson } from "./shown.ts";

/** A kind of value: what it accepts, and how a message calls it. */
export interface OptionKind {
  /** Whether a value is of the kind. */
  readonly accepts: (value: unknown) => boolean;
  /** Completes "must be …". */
  readonly requirement: string;
}

/** The kind of each option; all of them are optional. */
export type OptionTable<Options> = { readonly [Name in keyof Required<Options>]: OptionKind };

/** Names of other libraries, and of this one elsewhere, that no change of spelling leads to. */
const otherNames: Readonly<Record<string, string>> = {
  steps: "numInferenceSteps",
  cfg: "guidanceScale",
  cfgScale: "guidanceScale",
  guidance: "guidanceScale",
  seed: "generator",
  batchSize: "numImagesPerPrompt",
  adapterName: "name",
  lambda: "lamb",
  "lambda_": "lamb",
};

/** The same advice for several names. */
function eachNamed(names: readonly string[], advice: string): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, advice]));
}

/** What stands in place of options of diffusers that are not here, by their names in camelCase. */
const replacements: Readonly<Record<string, string>> = {
  torchDtype: 'weights keep the precision of their file, and activations: "f16" halves the memory of the UNet',
  useSafetensors: "only safetensors are read",
  safeSerialization: "only safetensors are written",
  device: "the device is the gpu that the models were loaded to",
  returnDict: "results are objects: const { images } = await pipe.generate(…)",
  dtype: 'weights keep the precision of their file, and activations: "f16" halves the memory of the UNet',
  addWatermarker: "pictures get no watermark",
  guidanceRescale: "only pipelines of SDXL rescale predictions; it can be left out where it is 0",
  ...eachNamed(
    ["prompt2", "negativePrompt2", "originalSize", "cropsCoordsTopLeft", "targetSize", "denoisingEnd"],
    "only pipelines of SDXL take it",
  ),
  ...eachNamed(
    ["denoisingStart", "aestheticScore", "negativeAestheticScore"],
    "it is an option of refiners, which are not supported",
  ),
  ...eachNamed(
    ["image", "strength", "maskImage"],
    "pictures are drawn from noise; img2img and inpainting are not supported",
  ),
  loraScale: "crossAttentionKwargs: { scale } scales the LoRAs of a call",
  ...eachNamed(["sampler", "scheduler"], "set pipe.scheduler, as to samplerByName(name, pipe.scheduler.config)"),
  ...eachNamed(["withToK", "withAugs"], "it is an option of fromPretrained(), openPipeline() and ModelEdit.solve()"),
  callbackOnStepEnd: "callback(step, timestep, latents) is called after each step",
  callbackOnStepEndTensorInputs: "callback gets the latents",
};

/** The same for options of edits, which `lamb` marks. */
const editReplacements: Readonly<Record<string, string>> = {
  strength: "pipe.edits.push(edit, { strength }) takes it, for an edit of ModelEdit.solve()",
};

/** The same for names that are like others, which are meant where those are known. */
const lastReplacements: Readonly<Record<string, string>> = eachNamed(
  ["method", "tokens", "threshold", "invariant", "eraseScale", "preserveScale", "retainScale", "preserveWeight"],
  "ModelEdit.solve(pairs, { method, … }, pipe) takes it, for edits of all methods",
);

/**
 * Checks names and kinds of options.
 *
 * @param action what fails, as "Cannot `action`"
 * @param within the option that holds these, for nested objects
 * @throws {OptionError} for a name that the table lacks, with the nearest one, and for a value of
 *   the wrong kind
 */
export function checkOptions<Options extends object>(
  action: string,
  options: Options,
  table: OptionTable<Options>,
  within = "",
): void {
  const path = (name: string) => within === "" ? name : `${within}.${name}`;
  checkArgument(action, within || "options", options, namedValues);
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(table, name)) {
      throw unknownOption(action, { name, path: path(name), value }, Object.keys(table));
    }
    const { accepts, requirement } = table[name as keyof Options];
    if (value === undefined || accepts(value)) continue;
    throw new OptionError(`Cannot ${action} as ${path(name)} must be ${requirement}: ${shown(value)}`, {
      option: path(name),
      value,
    });
  }
}

/**
 * Checks an argument that is no option.
 *
 * @param action what fails, as "Cannot `action`"
 * @throws {OptionError} for a value of the wrong kind
 */
export function checkArgument(action: string, name: string, value: unknown, kind: OptionKind): void {
  if (kind.accepts(value)) return;
  throw new OptionError(`Cannot ${action} as ${name} must be ${kind.requirement}: ${shown(value)}`, {
    option: name,
    value,
  });
}

/** What options are: spreading a number, a list or null would drop what the caller meant. */
const namedValues: OptionKind = {
  requirement: "an object of named values",
  accepts: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
};

/**
 * A copy of options, which the caller may change while a call runs.
 *
 * @throws {OptionError} for what is no object
 */
export function takeOptions<Options extends object>(action: string, options: Options): Options {
  checkArgument(action, "options", options, namedValues);
  return { ...options };
}

/** The options that are given: those that are not `undefined`. */
export function givenOptions<Options extends object>(options: Options): Options {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Options;
}

function own(table: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

function unknownOption(
  action: string,
  { name, path, value }: { name: string; path: string; value: unknown },
  known: readonly string[],
): OptionError {
  const camelCase = name.replace(/_+([a-z0-9])/gi, (_, letter: string) => letter.toUpperCase());
  const alias = [name, camelCase].map((spelling) =>
    Object.hasOwn(otherNames, spelling) ? otherNames[spelling] : spelling
  );
  const replacement = (known.includes("lamb") ? own(editReplacements, camelCase) : undefined) ??
    own(replacements, camelCase);
  const meant = [...alias, camelCase].find((candidate) => known.includes(candidate)) ??
    (replacement === undefined ? nearest(camelCase, known) : undefined);
  const advice = meant !== undefined
    ? `did you mean ${meant}?`
    : replacement ?? own(lastReplacements, camelCase) ?? `the options are ${known.join(", ") || "none"}`;
  return new OptionError(`Cannot ${action} with the option ${JSON.stringify(path)} as there is none: ${advice}`, {
    option: path,
    value,
  });
}

/** A value in a message: short, and without line breaks. */
export function shown(value: unknown): string {
  if (typeof value === "string") return shownJson(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return `[${value.slice(0, 4).map(shown).join(", ")}${value.length > 4 ? ", …" : ""}]`;
  const name = Object.getPrototypeOf(value)?.constructor?.name ?? "Object";
  return name === "Object" ? "an object" : `an object of class ${name}`;
}

/** A kind of value, recognized by a predicate. */
export function kind(requirement: string, accepts: (value: unknown) => boolean): OptionKind {
  return { requirement, accepts };
}

/** Either of several kinds. */
export function either(...kinds: readonly OptionKind[]): OptionKind {
  return kind(
    kinds.map(({ requirement }) => requirement).join(" or "),
    (value) => kinds.some(({ accepts }) => accepts(value)),
  );
}

/**
 * An instance of one of some classes.
 *
 * @param classes by the names that messages call them, which minifiers leave alone
 */
export function instanceOf(
  classes: Readonly<Record<string, { [Symbol.hasInstance](value: unknown): boolean }>>,
): OptionKind {
  return kind(
    `an instance of ${Object.keys(classes).join(" or ")}`,
    (value) => Object.values(classes).some((one) => one[Symbol.hasInstance](value)),
  );
}

/** A list whose members are all of a kind. */
export function listOf(member: OptionKind, of: string): OptionKind {
  return kind(`a list of ${of}`, (value) => Array.isArray(value) && value.every(member.accepts));
}

/** One of some texts. */
export function oneOf(...choices: readonly string[]): OptionKind {
  return kind(
    choices.map((choice) => JSON.stringify(choice)).join(" or "),
    (value) => typeof value === "string" && choices.includes(value),
  );
}

/** A whole number from `least` on. */
export function wholeFrom(least: number): OptionKind {
  return kind(
    Number.isFinite(least) ? `a whole number from ${least}` : "a whole number",
    (value) => Number.isSafeInteger(value) && (value as number) >= least,
  );
}

/** The kinds without parameters. */
export const kinds = {
  text: kind("a string", (value) => typeof value === "string"),
  number: kind("a number", (value) => typeof value === "number" && !Number.isNaN(value)),
  finite: kind("a finite number", (value) => Number.isFinite(value)),
  flag: kind("true or false", (value) => typeof value === "boolean"),
  callback: kind("a function", (value) => typeof value === "function"),
  nothing: kind("null", (value) => value === null),
  object: kind("an object", (value) => typeof value === "object" && value !== null),
  anything: kind("a value", () => true),
  signal: kind("an AbortSignal", (value) => value instanceof AbortSignal),
} as const satisfies Record<string, OptionKind>;
