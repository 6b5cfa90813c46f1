/**
 * Test cases of edits: prompts that an edit should change and prompts that it should not.
 *
 * @module
 */

/** A prompt, and the same prompt with the words that the edit adds. */
export interface PromptPair {
  /** The prompt without the edit's words. */
  readonly prompt: string;
  /** "a field of blue roses" for "a field of roses"; "a blue lemon" for "a lemon". */
  readonly edited: string;
}

/** An edit with its test prompts, as in the TIMED data set (arXiv 2303.08084, section 5). */
export interface EditCase {
  /** The prompt whose meaning changes. */
  readonly source: string;
  /** The prompt that says the new meaning. */
  readonly destination: string;
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

/**
 * Validates parsed JSON: an array of objects with the fields of {@linkcode EditCase}; `preserve` is
 * optional.
 *
 * @param name name of the JSON in error messages
 * @throws {TypeError} when a field is missing or has the wrong type; the message names the field
 */
export function parseEditCases(json: unknown, name: string): EditCase[] {
  const refuse = (place: string, needs: string, value: unknown): never => {
    throw new TypeError(`Cannot use ${name}: ${place} must be ${needs}, not ${JSON.stringify(value) ?? "undefined"}`);
  };
  const text = (value: unknown, place: string): string =>
    typeof value === "string" && value !== "" ? value : refuse(place, "a non-empty string", value);
  const list = (value: unknown, place: string): unknown[] =>
    Array.isArray(value) ? value : refuse(place, "an array", value);
  const fields = (value: unknown, place: string): Record<string, unknown> =>
    value !== null && typeof value === "object" ? value as Record<string, unknown> : refuse(place, "an object", value);
  const pairs = (value: unknown, place: string) =>
    list(value, place).map((item, i) => {
      const { prompt, edited } = fields(item, `${place}[${i}]`);
      return { prompt: text(prompt, `${place}[${i}].prompt`), edited: text(edited, `${place}[${i}].edited`) };
    });
  return list(json, "the document").map((item, i) => {
    const { source, destination, related, unrelated, preserve } = fields(item, `[${i}]`);
    return {
      source: text(source, `[${i}].source`),
      destination: text(destination, `[${i}].destination`),
      related: pairs(related, `[${i}].related`),
      unrelated: pairs(unrelated, `[${i}].unrelated`),
      preserve: list(preserve ?? [], `[${i}].preserve`).map((prompt, k) => text(prompt, `[${i}].preserve[${k}]`)),
    };
  });
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
