/** Weights in prompts, in the syntax of AUTOMATIC1111's web UI (`parse_prompt_attention`). */

import { PromptError } from "../../errors.ts";

/** A part of a prompt with its weight; "break" begins a new chunk. */
export type WeightedPart = { readonly text: string; readonly weight: number } | "break";

/** Escapes, brackets, a weight with its closing bracket, text, and what is left over. */
const pattern = /\\[()[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()[\]:]+|:/g;

/** `(text)` multiplies by this, and `[text]` divides. */
const emphasis = 1.1;

/**
 * Parses weights: `(text)` is 1.1 times, `(text:1.3)` 1.3 times and `[text]` 1/1.1 times; nested
 * weights multiply. `\(`, `\)`, `\[`, `\]` and `\\` are the characters themselves. `BREAK` begins a
 * new chunk. In brackets it is text, weighted by minus the factor, as A1111's parser marks a break
 * by the weight −1, which brackets multiply. A bracket that is not closed reaches to the end of the
 * prompt.
 *
 * ```ts
 * parseAttention("a (red:1.5) rose"); // "a " 1, "red" 1.5, " rose" 1
 * ```
 *
 * @throws {PromptError} for `[a:b:0.5]`, `[a|b]` and `AND`, which are not supported
 */
export function parseAttention(prompt: string): WeightedPart[] {
  refuseSchedules(prompt);
  const parts: { text: string; weight: number }[] = [];
  const round: number[] = [], square: number[] = [];
  const multiply = (first: number, factor: number) => {
    for (const part of parts.slice(first)) part.weight *= factor;
  };
  for (const [token, weight] of prompt.matchAll(pattern)) {
    if (token.startsWith("\\")) parts.push({ text: token.slice(1), weight: 1 });
    else if (token === "(") round.push(parts.length);
    else if (token === "[") square.push(parts.length);
    else if (weight !== undefined && round.length > 0) multiply(round.pop()!, numberOf(weight, prompt));
    else if (token === ")" && round.length > 0) multiply(round.pop()!, emphasis);
    else if (token === "]" && square.length > 0) multiply(square.pop()!, 1 / emphasis);
    else {
      token.split(/\s*\bBREAK\b\s*/).forEach((text, i) => {
        if (i > 0) parts.push({ ...breakMark });
        parts.push({ text, weight: 1 });
      });
    }
  }
  for (const first of round) multiply(first, emphasis);
  for (const first of square) multiply(first, 1 / emphasis);
  return merged(parts);
}

/** A break among the parts, unless brackets change its weight. */
const breakMark = { text: "BREAK", weight: -1 };

/** Joins neighbors of one weight, as they are tokenized together. */
function merged(parts: readonly { text: string; weight: number }[]): WeightedPart[] {
  const result: { text: string; weight: number }[] = [];
  for (const { text, weight } of parts) {
    const last = result.at(-1);
    if (last?.weight === weight) last.text += text;
    else result.push({ text, weight });
  }
  if (result.length === 0) return [{ text: "", weight: 1 }];
  return result.map((part) => part.text === breakMark.text && part.weight === breakMark.weight ? "break" : part);
}

function numberOf(text: string, prompt: string): number {
  const weight = Number(text);
  if (Number.isFinite(weight)) return weight;
  throw new PromptError(`Cannot weight by ${JSON.stringify(text)} in ${quoted(prompt)} as it is not a number`);
}

/** @throws {PromptError} for prompt editing, alternation and composition */
function refuseSchedules(prompt: string): void {
  const open: { bracket: string; start: number; bar: boolean; lastColon: number }[] = [];
  for (const { 0: token, index } of prompt.matchAll(/\\.|[()[\]:|]/g)) {
    const top = open.at(-1);
    if (token === "(" || token === "[") open.push({ bracket: token, start: index, bar: false, lastColon: -1 });
    else if (token === "|" && top) top.bar = true;
    else if (token === ":" && top) top.lastColon = index;
    else if (token === ")" && top?.bracket === "(") open.pop();
    else if (token === "]" && top?.bracket === "[") {
      open.pop();
      const when = top.lastColon < 0 ? "" : prompt.slice(top.lastColon + 1, index).trim();
      if (top.bar || /^[+-]?(\d+\.?\d*|\.\d+)$/.test(when)) {
        const what = top.bar ? "alternation [a|b]" : "prompt editing [a:b:when]";
        throw new PromptError(
          `Cannot read ${quoted(prompt.slice(top.start, index + 1))} as ${what} is not supported: ` +
            "draw the prompts one by one, or write \\[ for a bracket that is meant as text",
        );
      }
    }
  }
  if (/\bAND\b/.test(prompt)) {
    throw new PromptError(
      `Cannot read ${quoted(prompt)} as composition with AND is not supported: write "and" for the word`,
    );
  }
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
