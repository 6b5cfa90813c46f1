/**
 * What an edit is judged by: prompts, each beside the one that it should, or should not, have
 * become.
 */

/** A prompt, and the same prompt with what the edit adds. */
export interface PromptPair {
  readonly prompt: string;
  /** "a field of blue roses" for "a field of roses"; "a blue lemon" for "a lemon". */
  readonly edited: string;
}

/** An edit with its test prompts, as in TIME's data set. */
export interface EditCase {
  readonly source: string;
  readonly destination: string;
  /** Prompts that the edit should reach: they tell generality. */
  readonly related: readonly PromptPair[];
  /** Prompts that it should leave alone: they tell specificity. */
  readonly unrelated: readonly PromptPair[];
  /** Prompts to give to the edit as rows to keep, where this is tried. */
  readonly preserve: readonly string[];
}

/** How many of a list of cases to use. */
export interface CaseLimits {
  readonly edits?: number;
  /** Related prompts of each edit. */
  readonly related?: number;
  /** Unrelated prompts of each edit. */
  readonly unrelated?: number;
}

/**
 * Cases from parsed JSON: a list of objects with the fields of {@linkcode EditCase}, of which
 * `preserve` may be missing.
 *
 * @param name what errors call the JSON
 * @throws {TypeError} where a field is missing or not what it should be, with its place
 */
export function parseEditCases(json: unknown, name: string): EditCase[] {
  const refuse = (place: string, needs: string, value: unknown): never => {
    throw new TypeError(`Cannot use ${name} as ${place} must be ${needs}: ${JSON.stringify(value)}`);
  };
  const text = (value: unknown, place: string): string =>
    typeof value === "string" && value !== "" ? value : refuse(place, "a text", value);
  const list = (value: unknown, place: string): unknown[] =>
    Array.isArray(value) ? value : refuse(place, "a list", value);
  const fields = (value: unknown, place: string): Record<string, unknown> =>
    value !== null && typeof value === "object" ? value as Record<string, unknown> : refuse(place, "an object", value);
  const pairs = (value: unknown, place: string) =>
    list(value, place).map((item, i) => {
      const { prompt, edited } = fields(item, `${place}[${i}]`);
      return { prompt: text(prompt, `${place}[${i}].prompt`), edited: text(edited, `${place}[${i}].edited`) };
    });
  return list(json, "it").map((item, i) => {
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

/** The first cases, with the first of their prompts. */
export function limitCases(cases: readonly EditCase[], limits: CaseLimits): EditCase[] {
  const { edits, related, unrelated } = limits;
  return cases.slice(0, edits).map((each) => ({
    ...each,
    related: each.related.slice(0, related),
    unrelated: each.unrelated.slice(0, unrelated),
  }));
}
