/**
 * Test cases of edits: prompts that an edit should change and prompts that it should not.
 *
 * @module
 */

import * as v from "valibot";
import { DataError } from "../errors.ts";
import { anyText, fields, listOf, type Schema, text, validateJson } from "../schema.ts";

/** A prompt, and the same prompt with the words that the edit adds. */
export interface PromptPair {
  /** The prompt without the edit's words. */
  readonly prompt: string;
  /** "a field of blue roses" for "a field of roses"; "a blue lemon" for "a lemon". */
  readonly edited: string;
  /** Further forms that count as edited: what may be shown instead of an erased concept. */
  readonly also?: readonly string[];
}

/** An edit with its test prompts, as in the TIMED data set (arXiv 2303.08084, section 5). */
export interface EditCase {
  /** The prompt whose meaning changes. */
  readonly source: string;
  /** The prompt that states the new meaning; "" erases the source, and needs `also`. */
  readonly destination: string;
  /** Further prompts that count as the new meaning. */
  readonly also?: readonly string[];
  /** Prompts that the edit should change; they measure generality. */
  readonly related: readonly PromptPair[];
  /** Prompts that the edit should not change; they measure specificity. */
  readonly unrelated: readonly PromptPair[];
  /** Prompts to preserve, for evaluations that use them. */
  readonly preserve: readonly string[];
}

/** Limits of the number of cases and prompts; undefined means all. */
export interface CaseLimits {
  /** Number of cases. */
  readonly edits?: number;
  /** Related prompts of each edit. */
  readonly related?: number;
  /** Unrelated prompts of each edit. */
  readonly unrelated?: number;
}

const maxPrompts = 10_000;
/** Further edited forms. */
export const also: Schema<readonly string[] | undefined> = v.optional(listOf(text(), { min: 1, max: maxPrompts }));
const pairSchema: Schema<PromptPair> = fields({ prompt: text(), edited: text(), also });
const prompts = {
  related: listOf(pairSchema, { max: maxPrompts }),
  unrelated: listOf(pairSchema, { max: maxPrompts }),
};

/** A destination prompt, possibly empty. */
export const destinationSchema: Schema<string> = v.pipe(
  v.unknown(),
  v.check(
    (value) => !Array.isArray(value),
    "one prompt (several weighted destinations are for bluerose debias and bluerose edit --pairs)",
  ),
  anyText(),
);

const casesSchema: Schema<EditCase[]> = listOf(
  v.pipe(
    fields({
      source: text(),
      destination: destinationSchema,
      also,
      ...prompts,
      preserve: v.optional(listOf(text(), { max: maxPrompts }), []),
    }),
    v.check(
      ({ destination, also }) => destination !== "" || also !== undefined,
      'a case whose destination is "" only if "also" lists what may be shown instead',
    ),
  ),
  { max: 100_000 },
);

/**
 * Parses a JSON file of cases: an array of objects with the fields of {@linkcode EditCase};
 * `preserve` is optional.
 *
 * @param content the file's text
 * @param name the file's name, for messages
 * @throws {DataError} when the text is not JSON, or a field is missing or has the wrong type; the
 *   message names the field
 */
export function parseEditCases(content: string, name: string): EditCase[] {
  const refuse = (reason: string) => new DataError(`Cannot use ${name} as cases: ${reason}`, { source: name });
  return validateJson(casesSchema, content, refuse);
}

/** All forms that count as edited; "" is none, as no picture shows it. */
export function editedForms({ edited, also = [] }: Pick<PromptPair, "edited" | "also">): string[] {
  return [...new Set([edited, ...also])].filter((form) => form !== "");
}

/** The first `edits` cases, each with its first related and unrelated prompts. */
export function limitCases(cases: readonly EditCase[], limits: CaseLimits): EditCase[] {
  const { edits, related, unrelated } = limits;
  return cases.slice(0, edits).map((each) => ({
    ...each,
    related: each.related.slice(0, related),
    unrelated: each.unrelated.slice(0, unrelated),
  }));
}
