/**
 * Tokens that textual inversions add to tokenizers and text encoders. The models' weights are not
 * modified.
 */

import { countText } from "../../engine/inspect.ts";
import { AdapterError } from "../errors.ts";
import type { CLIPTextEncoder } from "../models/clip_text.ts";
import { checkOptions, either, kinds, listOf, type OptionTable } from "../options.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";
import { forgetFile, rememberFile } from "./adapter_files.ts";
import { type AdapterFileOptions, type AdapterSource, openAdapter } from "./open_adapter.ts";
import { type EmbeddingWidths, readTextualInversions, type TextualInversion } from "./textual_inversion.ts";

/** Options of {@linkcode StableDiffusionPipeline.loadTextualInversion}. */
export interface LoadTextualInversionOptions extends AdapterFileOptions {
  /**
   * The token to write in prompts, or one for each of several embeddings. Default: the tokens that
   * the files name.
   */
  readonly token?: string | readonly string[];
}

/** The options of {@linkcode loadTextualInversion} and their kinds. */
const textualInversionTable: OptionTable<LoadTextualInversionOptions> = {
  weightName: kinds.text,
  token: either(kinds.text, listOf(kinds.text, "strings")),
};

/** A text encoder as far as it learns tokens. */
type Learner = Pick<CLIPTextEncoder, "config" | "addedTokens" | "setAddedToken"> & ReleasableEncoder;

/** A text encoder whose weights may have been freed. */
export type ReleasableEncoder = Partial<Pick<CLIPTextEncoder, "isDisposed">>;

/** @throws {AdapterError} if an adapter changes a text encoder whose weights have been freed */
export function refuseReleased(
  source: string,
  kind: string,
  encoders: readonly (ReleasableEncoder | undefined)[],
): void {
  if (!encoders.some((encoder) => encoder?.isDisposed)) return;
  throw new AdapterError(
    `Cannot load ${source} as ${kind} changes the text encoders, and they have been released: load it before ` +
      "releaseTextEncoders(), and encode prompts with it",
    { source, keys: [] },
  );
}

/** What textual inversions extend: tokenizers, and embeddings by token id. */
export interface Teachable {
  readonly tokenizer: CLIPTokenizer;
  readonly textEncoder: Learner;
  /** Those of SDXL's second text encoder. */
  readonly tokenizer2?: CLIPTokenizer;
  readonly textEncoder2?: Learner;
}

/** Widths of the embeddings that each text encoder reads. */
export function widthsOf({ textEncoder, textEncoder2 }: Teachable): EmbeddingWidths {
  return { width: textEncoder.config.hiddenSize, width2: textEncoder2?.config.hiddenSize };
}

/** Tokenizer, text encoder and embeddings of each of a model's encoders. */
function lessons(
  { tokenizer, textEncoder, tokenizer2, textEncoder2 }: Teachable,
  { vectors, vectors2 = [] }: Pick<TextualInversion, "vectors" | "vectors2">,
): { tokenizer: CLIPTokenizer; encoder: Learner; vectors: readonly Float32Array[] }[] {
  const second = tokenizer2 && textEncoder2
    ? [{ tokenizer: tokenizer2, encoder: textEncoder2, vectors: vectors2 }]
    : [];
  return [{ tokenizer, encoder: textEncoder, vectors }, ...second];
}

/** Whether a token with the same embeddings is there already: a LoRA may be loaded twice. */
export function isTaught(teachable: Teachable, inversion: TextualInversion, added: ReadonlySet<string>): boolean {
  const { token } = inversion;
  return lessons(teachable, inversion).every(({ tokenizer, encoder, vectors }) => {
    const id = added.has(token) ? tokenizer.idOf(token) : undefined;
    if (id === undefined || tokenizer.idOf(`${token}_${vectors.length}`) !== undefined) return false;
    return vectors.every((vector, i) => encoder.addedTokens.get(id + i)?.every((value, at) => value === vector[at]));
  });
}

/**
 * Adds tokens and their embeddings to a tokenizer and a text encoder: all, or on an error none.
 *
 * @param sources one file with one or more tokens, or several files
 * @returns the tokens, in order
 * @throws {AdapterError} if a file is not a textual inversion, or does not fit the model
 * @throws {PromptError} if the tokenizer already has a token
 */
export async function loadTextualInversions(
  components: Teachable,
  sources: readonly AdapterSource[],
  options: LoadTextualInversionOptions = {},
): Promise<string[]> {
  checkOptions("load a textual inversion", options, textualInversionTable);
  const { token, ...where } = options;
  const tokens = typeof token === "string" ? [token] : token;
  if (sources.length > 1 && tokens !== undefined && tokens.length !== sources.length) {
    throw new AdapterError(
      `Cannot load ${countText(sources.length, "textual inversion")} by ${
        countText(tokens.length, "token")
      }: give one for each`,
      { source: "textual inversions", keys: [] },
    );
  }
  const read: TextualInversion[] = [];
  const files = new Map<string, string>();
  for (const [i, source] of sources.entries()) {
    using file = await openAdapter(source, { defaultNames: ["learned_embeds.safetensors"], ...where });
    refuseReleased(file.weights.name, "a textual inversion", [components.textEncoder, components.textEncoder2]);
    const inversions = await readTextualInversions(file.weights, {
      ...widthsOf(components),
      tokens: sources.length > 1 ? tokens && [tokens[i]] : tokens,
    });
    read.push(...inversions);
    for (const { token } of inversions) files.set(token, file.weights.name);
  }
  teach(components, read);
  for (const [token, file] of files) rememberFile(components.textEncoder, tokenKey(token), file);
  return read.map(({ token }) => token);
}

/** Teaches tokens: all, or on an error none. Returns what takes them away again. */
export function teach(teachable: Teachable, inversions: readonly TextualInversion[]): () => void {
  const taught: (() => void)[] = [];
  const unteach = () => taught.forEach((undo) => undo());
  try {
    for (const inversion of inversions) {
      const { token } = inversion;
      for (const { tokenizer, encoder, vectors } of lessons(teachable, inversion)) {
        const id = tokenizer.addToken(token, { vectors: vectors.length });
        taught.push(() => tokenizer.addedTokens.includes(token) && forget(tokenizer, encoder, token));
        vectors.forEach((vector, i) => encoder.setAddedToken(id + i, vector));
      }
    }
    return unteach;
  } catch (error) {
    unteach();
    throw error;
  }
}

/**
 * Unloads one textual inversion, or all of them.
 *
 * @throws {PromptError} if no textual inversion has that token
 */
export function unloadTextualInversion(teachable: Teachable, token?: string): void {
  for (const { tokenizer, encoder } of lessons(teachable, { vectors: [] })) {
    for (const one of token === undefined ? tokenizer.addedTokens : [token]) forget(tokenizer, encoder, one);
  }
}

function forget(tokenizer: CLIPTokenizer, encoder: Learner, token: string): void {
  for (const id of tokenizer.removeToken(token)) encoder.setAddedToken(id, undefined);
  forgetFile(encoder, tokenKey(token));
}

const tokenKey = (token: string) => `token ${token}`;
