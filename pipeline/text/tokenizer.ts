/**
 * CLIP's tokenizer: text to token ids and back, identical to transformers 4.35's `CLIPTokenizer`.
 *
 * `@huggingface/tokenizers` splits words, maps bytes and merges pairs. Normalization is done here,
 * because the library's normalizers cannot express it: the reference cleans text as BERT does
 * (control characters removed, CJK characters separated), and looks for special tokens both in the
 * raw text and in the cleaned, lowercase text.
 *
 * @module
 */

import { Tokenizer } from "@huggingface/tokenizers";
import { openTree } from "../checkpoint/source/disk.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { PromptError } from "../errors.ts";
import { shown } from "../shown.ts";
import { clean, cleanUpSpaces, trim } from "./clean_text.ts";
import {
  contentOf,
  maxTokenLength,
  noLimit,
  readAddedTokens,
  readMerges,
  readTokenizerFiles,
  readTokenizerSettings,
  readVocab,
  type TokenizerFiles,
} from "./tokenizer_files.ts";

/**
 * What CLIP counts as a word: a contraction, a run of letters, one digit, or a run of other
 * characters. The reference matches case-insensitively. In lowercase text this affects only two
 * characters: ſ matches s, and U+0345 (a mark whose uppercase form is a letter) matches nothing.
 */
const wordPattern = String.raw`'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\u0345]+`;

/**
 * CLIP's own special tokens. The reference also recognizes them in cleaned text, where
 * "<|EndOfText|>" has become lowercase.
 */
const clipSpecials = /(<\|startoftext\|>|<\|endoftext\|>)/;

/** Prompt length, in tokens, of the text encoders of Stable Diffusion 1.x and 2.x. */
const clipMaxLength = 77;

/** The most vectors of one added token. A prompt has room for 75. */
export const maxVectors = 1 << 16;

/**
 * CLIP's tokenizer.
 *
 * @example
 * ```ts
 * const tokenizer = await CLIPTokenizer.fromPretrained("stable-diffusion-v1-4/tokenizer");
 * tokenizer.encode("a rose"); // [49406, 320, 3568, 49407]
 * tokenizer.encode("a rose", { padding: "max_length", truncation: true }).length; // 77
 * ```
 */
export class CLIPTokenizer {
  /** Id of the token that begins every prompt. */
  readonly bosTokenId: number;
  /** Id of the token that ends every prompt. */
  readonly eosTokenId: number;
  /** Id of the padding token: the end token in SD 1.x, "!" (id 0) in SD 2.x. */
  readonly padTokenId: number;
  /** Maximum prompt length in tokens, begin and end tokens included. */
  readonly modelMaxLength: number;
  /** The files that the tokenizer was built from, for saving. */
  readonly files: TokenizerFiles;

  readonly #bpe: Tokenizer;
  readonly #idOf: Map<string, number>;
  readonly #tokenOf: Map<number, string>;
  /** Tokens that are matched verbatim in the raw text, before cleaning. */
  readonly #added = new Set<string>();
  /** Tokens added by `addToken()`, each with its continuation tokens (multi-vector embeddings). */
  readonly #followers = new Map<string, readonly string[]>();
  readonly #special: Set<number>;
  readonly #cleanUpSpaces: boolean;
  /**
   * Lengths of the added tokens by their first unit, the longest first. Built when needed: files
   * add thousands, one by one.
   */
  #lengths: ReadonlyMap<string, readonly number[]> | undefined;
  #nextId = 0;

  /**
   * Builds the tokenizer of the files; `name` stands for it in errors.
   *
   * @param base the tokenizer of the same files to copy, with its added tokens
   * @throws {ConfigError} if a file's content does not have the expected form
   */
  constructor(files: TokenizerFiles, name = "the tokenizer", base?: CLIPTokenizer) {
    this.files = files;
    if (base) {
      const { bosTokenId, eosTokenId, padTokenId, modelMaxLength } = base;
      this.bosTokenId = bosTokenId;
      this.eosTokenId = eosTokenId;
      this.padTokenId = padTokenId;
      this.modelMaxLength = modelMaxLength;
      this.#bpe = base.#bpe; // keeps no state
      this.#idOf = new Map(base.#idOf);
      this.#tokenOf = new Map(base.#tokenOf);
      this.#special = base.#special;
      this.#cleanUpSpaces = base.#cleanUpSpaces;
      for (const token of base.#added) this.#added.add(token);
      for (const [token, followers] of base.#followers) this.#followers.set(token, followers);
      this.#lengths = base.#lengths;
      this.#nextId = base.#nextId;
      return;
    }
    this.#idOf = readVocab(files.vocab, name);
    this.#tokenOf = new Map([...this.#idOf].map(([token, id]) => [id, token]));
    this.#findNextId();
    const merges = readMerges(files.merges);

    const settings = readTokenizerSettings(files, name);
    for (const [token, id] of readAddedTokens(files, name, this.#idOf)) this.#enter(token, id);
    // An empty token would be found between all characters.
    const special = (key: `${"bos" | "eos" | "unk" | "pad"}_token`, fallback: string): number =>
      this.#enterSpecial(contentOf(settings[key]) || fallback);
    this.bosTokenId = special("bos_token", "<|startoftext|>");
    this.eosTokenId = special("eos_token", "<|endoftext|>");
    const unkTokenId = special("unk_token", "<|endoftext|>");
    this.padTokenId = special("pad_token", "<|endoftext|>");
    const others = (settings.additional_special_tokens ?? []).map(contentOf).filter((token): token is string =>
      token !== undefined && token !== ""
    );
    this.#special = new Set([this.bosTokenId, this.eosTokenId, unkTokenId, this.padTokenId]);
    for (const token of others) this.#special.add(this.#enterSpecial(token));

    const limit = settings.model_max_length ?? noLimit;
    this.modelMaxLength = limit < noLimit ? limit : clipMaxLength;
    this.#cleanUpSpaces = settings.clean_up_tokenization_spaces !== false;
    this.#bpe = new Tokenizer(
      {
        added_tokens: [],
        normalizer: null,
        pre_tokenizer: {
          type: "Sequence",
          pretokenizers: [
            { type: "Split", pattern: { Regex: wordPattern }, behavior: "Removed", invert: true },
            { type: "ByteLevel", add_prefix_space: false, use_regex: false },
          ],
        },
        model: {
          type: "BPE",
          vocab: Object.fromEntries(this.#idOf),
          merges,
          unk_token: this.#tokenOf.get(unkTokenId),
          end_of_word_suffix: "</w>",
          continuing_subword_suffix: null,
          ignore_merges: false,
        },
        post_processor: null,
        decoder: { type: "ByteLevel" },
      },
      {},
    );
  }

  /**
   * Loads a tokenizer folder: `vocab.json` and `merges.txt`, or `tokenizer.json`; and, if present,
   * `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
   *
   * @param options.padToken Replaces the folder's padding token.
   * @throws {CheckpointError} if a file is missing or does not have the expected form
   */
  static async fromPretrained(
    directory: string | URL | FileTree,
    options: { padToken?: string } = {},
  ): Promise<CLIPTokenizer> {
    const tree = await openTree(directory);
    return new CLIPTokenizer(await readTokenizerFiles(tree, options), tree.name);
  }

  /** Number of tokens, added ones included: the rows that the text encoder's embedding needs. */
  get size(): number {
    return this.#idOf.size;
  }

  /** The id of a vocabulary entry such as "rose</w>"; `undefined` if there is none. */
  idOf(token: string): number | undefined {
    return this.#idOf.get(token);
  }

  /** The vocabulary entry of an id; `undefined` if there is none. */
  tokenOf(id: number): string | undefined {
    return this.#tokenOf.get(id);
  }

  /** Splits a text into tokens, without begin and end tokens. "</w>" marks the end of a word. */
  tokens(text: string): string[] {
    if (typeof text !== "string") throw new PromptError(`Cannot tokenize ${shown(text)} as it must be a string`);
    return this.#splitOnAdded(text).flatMap((section) => {
      if (this.#added.has(section)) return [section, ...this.#followers.get(section) ?? []];
      return clean(section).split(clipSpecials).flatMap((part) =>
        clipSpecials.test(part) ? [part] : this.#bpe.tokenize(part)
      );
    });
  }

  /**
   * Encodes a prompt: begin token, the text's tokens, end token.
   *
   * @param options.padding `"max_length"` pads to `modelMaxLength` ids.
   * @param options.truncation Truncates to `modelMaxLength` ids and keeps the end token.
   *   {@linkcode cut} returns the text that is lost.
   */
  encode(text: string, options: { padding?: "max_length"; truncation?: boolean } = {}): number[] {
    const room = (options.truncation ?? false) ? this.modelMaxLength - 2 : Infinity;
    const ids = this.tokens(text).map((token) => this.#idOf.get(token)!).slice(0, room);
    const prompt = [this.bosTokenId, ...ids, this.eosTokenId];
    while (options.padding === "max_length" && prompt.length < this.modelMaxLength) prompt.push(this.padTokenId);
    return prompt;
  }

  /** The end of a text that `encode()` with truncation drops, decoded; "" if all of it fits. */
  cut(text: string): string {
    return this.decode(this.encode(text).slice(this.modelMaxLength - 1, -1));
  }

  /**
   * Decodes ids to lowercase text with single spaces.
   *
   * @param options.skipSpecialTokens Omits begin, end, padding and unknown tokens.
   * @throws {PromptError} for anything but ids of the vocabulary
   */
  decode(ids: Iterable<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    if (typeof ids !== "object" || ids === null || !(Symbol.iterator in ids)) {
      throw new PromptError(`Cannot decode ${shown(ids)} as it must be a list of token ids`);
    }
    const skip = options.skipSpecialTokens ?? false;
    const texts: string[] = [];
    let run: number[] = [];
    const endRun = () => {
      // A run of bytes may end inside a character. The library and the reference both write U+FFFD.
      const text = run.length === 0 ? "" : trim(this.#bpe.decode(run, { clean_up_tokenization_spaces: false }));
      if (text !== "") texts.push(text);
      run = [];
    };
    for (const id of ids) {
      const token = this.#tokenOf.get(id);
      if (token === undefined) {
        throw new PromptError(`Cannot decode token id ${shown(id)}: the vocabulary has ${this.size} tokens`);
      }
      if (this.#special.has(id)) {
        if (!skip) run.push(id);
      } else if (this.#added.has(token)) {
        endRun();
        texts.push(token);
      } else {
        run.push(id);
      }
    }
    endRun();
    const text = texts.join(" ");
    return this.#cleanUpSpaces ? cleanUpSpaces(text) : text;
  }

  /**
   * Adds a token for textual inversion. It is matched verbatim and case-sensitively in prompts.
   *
   * @param options.vectors Number of token ids that it encodes to: its own, then those of
   *   token_1, token_2, … Default: 1.
   * @returns Its id, one past the largest: the row of the embedding table for its vector.
   * @throws {PromptError} if the token is empty or too long, or it or a continuation token already
   *   exists
   */
  addToken(token: string, options: { vectors?: number } = {}): number {
    const { vectors = 1 } = options;
    if (typeof token !== "string" || token.trim() === "" || token.length > maxTokenLength) {
      throw new PromptError(
        `Cannot add token ${shown(token)}: it must be a text of 1 to ${maxTokenLength} characters, and no mere space`,
      );
    }
    if (!Number.isInteger(vectors) || vectors < 1 || vectors > maxVectors) {
      throw new PromptError(
        `Cannot add token ${shown(token)}: its vectors must be a whole number from 1 to ${maxVectors}: ${
          shown(vectors)
        }`,
      );
    }
    const followers = Array.from({ length: vectors - 1 }, (_, i) => `${token}_${i + 1}`);
    for (const name of [token, ...followers]) {
      if (!this.#idOf.has(name)) continue;
      throw new PromptError(
        `Cannot add token ${shown(name)}: the vocabulary already has it with id ${
          this.#idOf.get(name)
        }. Choose another name`,
      );
    }
    const id = this.#nextId;
    [token, ...followers].forEach((name, i) => this.#enter(name, id + i));
    this.#followers.set(token, followers);
    return id;
  }

  /** A copy as the tokenizer is now: tokens added to one are not in the other. */
  copy(): CLIPTokenizer {
    return new CLIPTokenizer(this.files, undefined, this);
  }

  /** The tokens that {@linkcode addToken} added, without their continuation tokens. */
  get addedTokens(): readonly string[] {
    return [...this.#followers.keys()];
  }

  /**
   * Removes a token that {@linkcode addToken} added, with its continuation tokens.
   *
   * @returns The ids of the removed tokens.
   * @throws {PromptError} if {@linkcode addToken} did not add the token
   */
  removeToken(token: string): number[] {
    const followers = this.#followers.get(token);
    if (followers === undefined) {
      throw new PromptError(`Cannot remove token ${shown(token)}: addToken() did not add it`);
    }
    const names = [token, ...followers];
    const ids = names.map((name) => this.#idOf.get(name)!);
    for (const [i, name] of names.entries()) {
      this.#tokenOf.delete(ids[i]);
      this.#idOf.delete(name);
      this.#added.delete(name);
    }
    this.#followers.delete(token);
    this.#lengths = undefined;
    while (this.#nextId > 0 && !this.#tokenOf.has(this.#nextId - 1)) this.#nextId--;
    return ids;
  }

  #enterSpecial(token: string): number {
    return this.#enter(token, this.#idOf.get(token) ?? this.#nextId);
  }

  /** Adds a token to the vocabulary and to the tokens that are matched verbatim. */
  #enter(token: string, id: number): number {
    this.#idOf.set(token, id);
    this.#tokenOf.set(id, token);
    this.#added.add(token);
    this.#lengths = undefined;
    this.#nextId = Math.max(this.#nextId, id + 1);
    return id;
  }

  /** The id after the largest. */
  #findNextId(): void {
    this.#nextId = 0;
    for (const id of this.#tokenOf.keys()) this.#nextId = Math.max(this.#nextId, id + 1);
  }

  #lengthsOfAdded(): ReadonlyMap<string, readonly number[]> {
    const lengths = new Map<string, Set<number>>();
    for (const added of this.#added) {
      const known = lengths.get(added[0]);
      if (known) known.add(added.length);
      else lengths.set(added[0], new Set([added.length]));
    }
    return new Map([...lengths].map(([first, set]) => [first, [...set].sort((a, b) => b - a)]));
  }

  /** Cuts a text at the added tokens. The longer of two that begin at the same place wins. */
  #splitOnAdded(text: string): string[] {
    this.#lengths ??= this.#lengthsOfAdded();
    const sections: string[] = [];
    let start = 0;
    for (let at = 0; at < text.length; at++) {
      const length = this.#lengths.get(text[at])?.find((length) => this.#added.has(text.slice(at, at + length)));
      if (length === undefined) continue;
      if (at > start) sections.push(text.slice(start, at));
      sections.push(text.slice(at, at + length));
      start = at + length;
      at = start - 1;
    }
    if (start < text.length) sections.push(text.slice(start));
    return sections;
  }
}
