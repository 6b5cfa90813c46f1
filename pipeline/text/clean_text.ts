/**
 * Text normalization of transformers' CLIP tokenizer, which `@huggingface/tokenizers` cannot
 * express.
 *
 * @module
 */

/**
 * Normalizes text as the reference does without ftfy: BERT's basic tokenizer, except that accents
 * and punctuation stay.
 */
export function clean(text: string): string {
  return text
    .replace(/[\t\n\r\p{Zs}]/gu, " ")
    .replace(/[\uFFFD\p{C}]/gu, "")
    .replace(cjk, " $& ")
    .normalize("NFC")
    .split(/\s+/)
    .map((word) => word.toLowerCase()) // word by word: lowercase sigma differs at the end of a word
    .join(" ")
    .trim();
}

/** Unified and compatibility ideographs, in the blocks that BERT lists. */
const cjk =
  /[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B820}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]/gu;

/** Python's `strip()`: it strips information separators, and keeps the byte order mark. */
export function trim(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/^[[\s\x1c-\x1f\x85]--[\ufeff]]+|[[\s\x1c-\x1f\x85]--[\ufeff]]+$/gv, "");
}

/**
 * Removes the spaces that decoding leaves before punctuation and contractions, in transformers'
 * order.
 */
export function cleanUpSpaces(text: string): string {
  for (const mark of [".", "?", "!", ","]) text = text.replaceAll(` ${mark}`, mark);
  text = text.replaceAll(" ' ", "'");
  for (const ending of ["n't", "'m", "'s", "'ve", "'re"]) text = text.replaceAll(` ${ending}`, ending);
  return text;
}
