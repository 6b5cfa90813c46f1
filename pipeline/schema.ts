/**
 * Validates parsed data by schemas (valibot), with one form of message for all of them:
 *
 *     rows[3].source must be a non-empty string, not 5
 *
 * A schema is declared against the interface that it yields, so that the two cannot differ:
 *
 * ```ts ignore
 * const pairSchema: Schema<Pair> = fields({ source: text(), weight: positive() });
 * ```
 *
 * @module
 */

import * as v from "valibot";
import { shown } from "./shown.ts";

/** A schema that accepts anything and yields a `T`. */
export type Schema<T> = v.GenericSchema<unknown, T>;

/** The longest text that a data file may hold in one place, in UTF-16 units. */
export const maxTextLength = 100_000;

/** A string with at least one character. */
export function text(): Schema<string> {
  const needs = `a string of 1 to ${maxTextLength} characters`;
  return v.pipe(v.string(needs), v.minLength(1, needs), v.maxLength(maxTextLength, needs));
}

/** A string, possibly empty. */
export function anyText(): Schema<string> {
  const needs = `a string of at most ${maxTextLength} characters`;
  return v.pipe(v.string(needs), v.maxLength(maxTextLength, needs));
}

/** A finite number. */
export function finite(): Schema<number> {
  const needs = "a finite number";
  return v.pipe(v.number(needs), v.finite(needs));
}

/** A finite number above zero. */
export function positive(): Schema<number> {
  const needs = "a number above 0";
  return v.pipe(v.number(needs), v.finite(needs), v.check((value) => value > 0, needs));
}

/** A finite number from zero. */
export function fromZero(): Schema<number> {
  const needs = "a number from 0";
  return v.pipe(v.number(needs), v.finite(needs), v.check((value) => value >= 0, needs));
}

/** A whole number within bounds, both included. */
export function whole(min: number, max: number): Schema<number> {
  const needs = `a whole number from ${min} to ${max}`;
  return v.pipe(v.number(needs), v.safeInteger(needs), v.minValue(min, needs), v.maxValue(max, needs));
}

/** True or false. */
export function boolean(): Schema<boolean> {
  return v.boolean("true or false");
}

/** One of several strings. */
export function oneOf<const T extends string>(...values: T[]): Schema<T> {
  return v.picklist(values, values.length === 1 ? JSON.stringify(values[0]) : `one of ${values.join(", ")}`);
}

/** A list of at least `min` and at most `max` items. */
export function listOf<T>(item: Schema<T>, { min = 0, max }: { min?: number; max: number }): Schema<T[]> {
  const needs = min === 0 ? `a list of at most ${max}` : `a list of ${min} to ${max}`;
  return v.pipe(v.array(item, needs), v.minLength(min, needs), v.maxLength(max, needs));
}

/** An object with the given fields; others are dropped. */
export function fields<const T extends v.ObjectEntries>(entries: T): v.ObjectSchema<T, string> {
  return v.object(entries, "an object");
}

/**
 * The value, if it satisfies the schema.
 *
 * @param refuse makes the error from a reason such as "[0].weight must be a number above 0, not -1"
 */
export function validate<T>(schema: Schema<T>, value: unknown, refuse: (reason: string) => Error): T {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const place = placeOf(issue);
  // For a key that an object lacks, the issue carries the object's message.
  if (issue.kind === "schema" && issue.input === undefined && issue.path) throw refuse(`${place} is missing`);
  throw refuse(`${place} must be ${issue.message}, not ${shown(issue.input)}`);
}

/**
 * Parses JSON text and validates the value.
 *
 * @param refuse makes the error from a reason, as in {@linkcode validate}
 */
export function validateJson<T>(schema: Schema<T>, json: string, refuse: (reason: string) => Error): T {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw refuse(`it must be JSON (${(cause as Error).message})`);
  }
  return validate(schema, value, refuse);
}

function placeOf(issue: v.BaseIssue<unknown>): string {
  const place = (issue.path ?? []).map(({ key }) => typeof key === "number" ? `[${key}]` : `.${String(key)}`).join("");
  return place === "" ? "it" : place.replace(/^\./, "");
}
