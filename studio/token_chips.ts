/** How the tokens of a pair are shown: chips, links, and what fails. @module */

import { alignPrompts } from "../pipeline/editing/prompts/alignment.ts";
import { lastTokenPosition } from "../pipeline/editing/prompts/concepts.ts";
import { AlignmentError } from "../pipeline/editing/errors.ts";
import type { CLIPTokenizer } from "../pipeline/text/tokenizer.ts";
import type { AlignmentView, PairSpec, RowTokens, TokenChip } from "./painter.ts";

/** The chips of a pair's tokens, without the start token, and the links between them. */
export function alignmentView(pair: PairSpec, tokens: RowTokens, tokenizer: CLIPTokenizer): AlignmentView {
  if (tokens === "last") return lastTokenView(pair, tokenizer);
  const { source, destination } = pair;
  const [from, to] = [textsOf(source, tokenizer), textsOf(destination, tokenizer)];
  try {
    const { pairs } = alignPrompts(source, destination, tokenizer);
    const links = pairs.filter(({ source }) => source > 0).map(({ source, destination }) =>
      [source - 1, destination - 1] as const
    );
    const linked = new Set(links.map(([, at]) => at));
    const added = to.map((_, at) => !linked.has(at));
    // The word behind added tokens takes on their meaning: "roses" of "blue roses".
    const moved = links.filter(([a, b]) => added[b - 1] === true && a < from.length - 1);
    const carriers = moved.length > 0 ? moved : links.filter(([, b]) => added[b - 1] === true);
    return {
      ok: true,
      source: from.map((text, at) => ({ text, added: false, moved: carriers.some(([a]) => a === at) })),
      destination: to.map((text, at) => ({ text, added: added[at], moved: carriers.some(([, b]) => b === at) })),
      links,
    };
  } catch (error) {
    if (!(error instanceof AlignmentError)) throw error;
    return {
      ok: false,
      message: error.message,
      source: from.map(chip),
      destination: to.map(chip),
      lost: error.position - 1, // the start token has no chip
    };
  }
}

/** The last subject token of a source becomes that of its destination. */
function lastTokenView({ source, destination }: PairSpec, tokenizer: CLIPTokenizer): AlignmentView {
  const isEmpty = lastTokenPosition(destination, tokenizer) < 1;
  const texts = [textsOf(source, tokenizer), isEmpty ? ["nothing", "end"] : textsOf(destination, tokenizer)];
  const [from, to] = texts.map((texts) => Math.max(0, texts.length - 2)); // before "end"
  return {
    ok: true,
    source: texts[0].map((text, at) => ({ text, added: false, moved: at === from })),
    destination: texts[1].map((text, at) => ({ text, added: at === to, moved: false })),
    links: [[from, to]],
  };
}

function chip(text: string): TokenChip {
  return { text, moved: false, added: false };
}

/** The texts of a prompt's tokens behind the start token; the end token reads "end". */
function textsOf(prompt: string, tokenizer: CLIPTokenizer): string[] {
  const ids = tokenizer.encode(prompt, { truncation: true }).slice(1, -1);
  return [...ids.map((id) => tokenizer.decode([id]).trim()), "end"];
}
