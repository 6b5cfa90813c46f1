/**
 * CLIP's tokenizer: text to token ids and back, id for id as transformers 4.35's `CLIPTokenizer`
 * does it.
 *
 * Pair merging, byte-level letters and the split into words are `@huggingface/tokenizers`'. What
 * comes before is done here, since the library's normalizers cannot say it: the reference cleans
 * text as BERT does (control characters go, CJK characters stand alone) and looks for special
 * tokens both in the text as typed and in the cleaned, lowered text.
 */

import { Tokenizer } from "@huggingface/tokenizers";
import { CheckpointError, ConfigError, PromptError } from "../errors.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { openTree } from "../checkpoint/source/disk.ts";

/**
 * CLIP's words: contractions, runs of letters, single digits, runs of anything else. The reference
 * matches them without regard to case, which after lowering matters to two characters alone: ſ
 * counts as s, and U+0345, whose capital is a letter and which is none, falls through.
 */
const words = String.raw`'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\u0345]+`;

/**
 * CLIP's own special tokens, which the reference recognises in cleaned text too, where
 * "<|EndOfText|>" has become one.
 */
const clipSpecials = /(<\|startoftext\|>|<\|endoftext\|>)/;

/** CLIP learned 49152 − 256 − 2 merges; the reference reads no more, whatever the file holds. */
const maxMerges = 49152 - 256 - 2;

/** The length of the prompts that every Stable Diffusion 1.x and 2.x text encoder takes. */
const clipMaxLength = 77;

/** Files of a tokenizer folder, in their parsed forms. */
export interface TokenizerFiles {
  /** `vocab.json`: ids by token. */
  readonly vocab: Readonly<Record<string, number>>;
  /** `merges.txt`, as text. */
  readonly merges: string;
  /** `tokenizer_config.json`. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** `special_tokens_map.json`. */
  readonly specialTokensMap?: Readonly<Record<string, unknown>>;
  /** `added_tokens.json` of old folders: ids by token. */
  readonly addedTokens?: Readonly<Record<string, unknown>>;
}

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
  /** The token that begins every prompt. */
  readonly bosTokenId: number;
  /** The token that ends every prompt. */
  readonly eosTokenId: number;
  /** The token that fills short prompts: the end token in SD 1.x, "!" (id 0) in SD 2.x. */
  readonly padTokenId: number;
  /** How many tokens a prompt has with its begin and end. */
  readonly modelMaxLength: number;
  /** What the tokenizer was made of, to be written again. */
  readonly files: TokenizerFiles;

  readonly #bpe: Tokenizer;
  readonly #idOf: Map<string, number>;
  readonly #tokenOf: Map<number, string>;
  /** Tokens that are found in a text as they stand, before all cleaning. */
  readonly #added = new Set<string>();
  /** Tokens that `addToken()` added, with those that follow them wherever they stand. */
  readonly #followers = new Map<string, readonly string[]>();
  readonly #special: Set<number>;
  readonly #cleanUpSpaces: boolean;
  #splitter = /(?!)/;

  /** @throws {ConfigError} if a file is not what its name says. */
  constructor(files: TokenizerFiles, name = "the tokenizer") {
    const config = files.config ?? {};
    this.files = files;
    this.#idOf = readVocab(files.vocab, name);
    this.#tokenOf = new Map([...this.#idOf].map(([token, id]) => [id, token]));
    const merges = readMerges(files.merges);

    for (const [token, id] of readAddedTokens(files, name)) this.#enter(token, id);
    // Where added tokens are listed in the config, the config is of one piece; before that, the map
    // had the last word.
    const specials = config.added_tokens_decoder === undefined ? { ...config, ...files.specialTokensMap } : config;
    const special = (key: string, fallback: string): number => this.#enterSpecial(contentOf(specials[key]) ?? fallback);
    this.bosTokenId = special("bos_token", "<|startoftext|>");
    this.eosTokenId = special("eos_token", "<|endoftext|>");
    const unkTokenId = special("unk_token", "<|endoftext|>");
    this.padTokenId = special("pad_token", "<|endoftext|>");
    const additional = Array.isArray(specials.additional_special_tokens) ? specials.additional_special_tokens : [];
    const others = additional.map(contentOf).filter((token) => token !== undefined);
    this.#special = new Set([this.bosTokenId, this.eosTokenId, unkTokenId, this.padTokenId]);
    for (const token of others) this.#special.add(this.#enterSpecial(token));

    const limit = config.model_max_length;
    // Files of transformers that know no limit say 10^30.
    this.modelMaxLength = typeof limit === "number" && limit >= 2 && limit < 1e6 ? limit : clipMaxLength;
    this.#cleanUpSpaces = config.clean_up_tokenization_spaces !== false;
    this.#bpe = new Tokenizer(
      {
        added_tokens: [],
        normalizer: null,
        pre_tokenizer: {
          type: "Sequence",
          pretokenizers: [
            { type: "Split", pattern: { Regex: words }, behavior: "Removed", invert: true },
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
   * Reads a tokenizer folder: `vocab.json`, `merges.txt` and, where they are,
   * `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
   *
   * @param options.padToken What fills short prompts, where it is to be another than the folder
   *   says.
   * @throws {CheckpointError} if a file is missing or not what its name says.
   */
  static async fromPretrained(
    directory: string | FileTree,
    options: { padToken?: string } = {},
  ): Promise<CLIPTokenizer> {
    const tree = await openTree(directory);
    for (const path of ["vocab.json", "merges.txt"]) {
      if (await tree.has(path)) continue;
      throw new CheckpointError(`Cannot load the tokenizer ${tree.name} as it has no ${path}`, { source: tree.name });
    }
    const readObject = async (path: string): Promise<Record<string, unknown> | undefined> => {
      if (!await tree.has(path)) return undefined;
      const json = await tree.readJson(path);
      if (isObject(json)) return json;
      throw new ConfigError(`Cannot read ${tree.name}/${path} as it must be a JSON object`, {
        source: `${tree.name}/${path}`,
        key: "",
        value: json,
      });
    };
    const padding = options.padToken === undefined ? {} : { pad_token: options.padToken };
    return new CLIPTokenizer({
      vocab: await readObject("vocab.json") as Record<string, number>,
      merges: await tree.readText("merges.txt"),
      config: { ...await readObject("tokenizer_config.json"), ...padding },
      specialTokensMap: { ...await readObject("special_tokens_map.json"), ...padding },
      addedTokens: await readObject("added_tokens.json"),
    }, tree.name);
  }

  /**
   * How many tokens there are, added ones among them: the rows that a text encoder's token table
   * needs.
   */
  get size(): number {
    return this.#idOf.size;
  }

  /** The id of a token as it stands in the vocabulary ("rose</w>"), if there is such a token. */
  idOf(token: string): number | undefined {
    return this.#idOf.get(token);
  }

  /** The token of an id, if there is one. */
  tokenOf(id: number): string | undefined {
    return this.#tokenOf.get(id);
  }

  /** The tokens of a text, without begin and end: "</w>" marks the last of a word. */
  tokens(text: string): string[] {
    return this.#splitOnAdded(text).flatMap((section) => {
      if (this.#added.has(section)) return [section, ...this.#followers.get(section) ?? []];
      return clean(section).split(clipSpecials).flatMap((part) =>
        clipSpecials.test(part) ? [part] : this.#bpe.tokenize(part)
      );
    });
  }

  /**
   * A prompt's token ids, from begin to end token.
   *
   * @param options.padding `"max_length"` fills up to `modelMaxLength` ids with the pad token.
   * @param options.truncation Cuts what is longer than `modelMaxLength`, and keeps the end token.
   *   `cut()` tells what went.
   */
  encode(text: string, options: { padding?: "max_length"; truncation?: boolean } = {}): number[] {
    const room = (options.truncation ?? false) ? this.modelMaxLength - 2 : Infinity;
    const ids = this.tokens(text).map((token) => this.#idOf.get(token)!).slice(0, room);
    const prompt = [this.bosTokenId, ...ids, this.eosTokenId];
    while (options.padding === "max_length" && prompt.length < this.modelMaxLength) prompt.push(this.padTokenId);
    return prompt;
  }

  /**
   * The end of a text that `encode()` with truncation leaves away, as tokens read; "" if all of it
   * fits.
   */
  cut(text: string): string {
    return this.decode(this.encode(text).slice(this.modelMaxLength - 1, -1));
  }

  /**
   * The text that ids stand for: lowercase, with single spaces.
   *
   * @param options.skipSpecialTokens Leaves out begin, end, pad and unknown tokens.
   * @throws {PromptError} for an id that no token has.
   */
  decode(ids: Iterable<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    const skip = options.skipSpecialTokens ?? false;
    const texts: string[] = [];
    let run: number[] = [];
    const endRun = () => {
      // The last byte run may break off inside a character; the reference marks that as the library
      // does, with U+FFFD.
      const text = run.length === 0 ? "" : trim(this.#bpe.decode(run, { clean_up_tokenization_spaces: false }));
      if (text !== "") texts.push(text);
      run = [];
    };
    for (const id of ids) {
      const token = this.#tokenOf.get(id);
      if (token === undefined) throw new PromptError(`Cannot decode the id ${id} as there are ${this.size} tokens`);
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
   * Adds a token, as textual inversion does: a string that is found in prompts as it stands, upper
   * and lower case apart.
   *
   * @param options.vectors As how many tokens it is read: itself, then token_1, token_2 … with the
   *   ids that follow. Default: 1.
   * @returns Its id, which follows all others: the row of the token table that its embedding
   *   belongs in.
   * @throws {PromptError} if the token is empty, or it or one that follows it is there already.
   */
  addToken(token: string, options: { vectors?: number } = {}): number {
    const { vectors = 1 } = options;
    if (token.trim() === "") throw new PromptError(`Cannot add the token ${JSON.stringify(token)} as it is empty`);
    const followers = Array.from({ length: vectors - 1 }, (_, i) => `${token}_${i + 1}`);
    for (const name of [token, ...followers]) {
      if (!this.#idOf.has(name)) continue;
      throw new PromptError(
        `Cannot add the token ${JSON.stringify(name)} as there is one with the id ${
          this.#idOf.get(name)
        }: choose another name`,
      );
    }
    const id = nextId(this.#tokenOf);
    [token, ...followers].forEach((name, i) => this.#enter(name, id + i));
    this.#followers.set(token, followers);
    return id;
  }

  /** The tokens that {@linkcode addToken} added, without those that follow them. */
  get addedTokens(): readonly string[] {
    return [...this.#followers.keys()];
  }

  /**
   * Takes a token away that {@linkcode addToken} added, with those that follow it.
   *
   * @returns Their ids.
   * @throws {PromptError} if there is no such token, or it was there from the beginning.
   */
  removeToken(token: string): number[] {
    const followers = this.#followers.get(token);
    if (followers === undefined) {
      throw new PromptError(`Cannot remove the token ${JSON.stringify(token)} as none of that name was added`);
    }
    const names = [token, ...followers];
    const ids = names.map((name) => this.#idOf.get(name)!);
    for (const [i, name] of names.entries()) {
      this.#tokenOf.delete(ids[i]);
      this.#idOf.delete(name);
      this.#added.delete(name);
    }
    this.#followers.delete(token);
    this.#findAdded();
    return ids;
  }

  #enterSpecial(token: string): number {
    return this.#enter(token, this.#idOf.get(token) ?? nextId(this.#tokenOf));
  }

  /** Takes a token into the vocabulary and among those that are found as they stand. */
  #enter(token: string, id: number): number {
    this.#idOf.set(token, id);
    this.#tokenOf.set(id, token);
    this.#added.add(token);
    this.#findAdded();
    return id;
  }

  #findAdded(): void {
    // The longest first, since of two tokens that begin at one place the longer wins.
    const byLength = [...this.#added].sort((a, b) => b.length - a.length);
    this.#splitter = new RegExp(`(${byLength.map((added) => added.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|")})`);
  }

  #splitOnAdded(text: string): string[] {
    return text.split(this.#splitter).filter((section) => section !== "");
  }
}

function nextId(tokenOf: ReadonlyMap<number, string>): number {
  let largest = -1;
  for (const id of tokenOf.keys()) largest = Math.max(largest, id);
  return largest + 1;
}

/**
 * Cleans text as the reference does without ftfy: BERT's basic tokenizer, which keeps accents and
 * punctuation.
 */
function clean(text: string): string {
  return text
    .replace(/[\t\n\r\p{Zs}]/gu, " ")
    .replace(/[\uFFFD\p{C}]/gu, "")
    .replace(cjk, " $& ")
    .normalize("NFC")
    .split(/\s+/)
    .map((word) => word.toLowerCase()) // word by word, as a final sigma depends on where the word ends
    .join(" ")
    .trim();
}

/** The blocks of unified and compatibility ideographs, as BERT lists them. */
const cjk =
  /[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B820}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]/gu;

/**
 * Python's `strip()`, which counts the information separators as spaces, and the byte order mark
 * not.
 */
function trim(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/^[[\s\x1c-\x1f\x85]--[\ufeff]]+|[[\s\x1c-\x1f\x85]--[\ufeff]]+$/gv, "");
}

/**
 * Takes the spaces away that decoding leaves before punctuation and contractions, in the order of
 * transformers.
 */
function cleanUpSpaces(text: string): string {
  for (const mark of [".", "?", "!", ","]) text = text.replaceAll(` ${mark}`, mark);
  text = text.replaceAll(" ' ", "'");
  for (const ending of ["n't", "'m", "'s", "'ve", "'re"]) text = text.replaceAll(` ${ending}`, ending);
  return text;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A token as configs write it: a string, or an object with its content. */
function contentOf(token: unknown): string | undefined {
  if (typeof token === "string") return token;
  return isObject(token) && typeof token.content === "string" ? token.content : undefined;
}

function isTokenId(id: unknown): id is number {
  return Number.isSafeInteger(id) && (id as number) >= 0;
}

function readVocab(vocab: Readonly<Record<string, unknown>>, name: string): Map<string, number> {
  const entries = Object.entries(vocab);
  const fault = entries.find(([, id]) => !isTokenId(id));
  if (fault === undefined && entries.length > 0) return new Map(entries as [string, number][]);
  const [key, value] = fault ?? ["", undefined];
  throw new ConfigError(
    `Cannot read ${name}/vocab.json as it must map tokens to ids: ${JSON.stringify(key)} is ${JSON.stringify(value)}`,
    { source: `${name}/vocab.json`, key, value },
  );
}

/** The pairs to merge, in order. The first line is a version, whatever it says. */
function readMerges(text: string): [string, string][] {
  return text.trim().split(/\r?\n/).slice(1, 1 + maxMerges).map((line) => line.trim().split(/\s+/) as [string, string]);
}

function readAddedTokens(files: TokenizerFiles, name: string): [string, number][] {
  const decoder = files.config?.added_tokens_decoder;
  const entries: [unknown, unknown][] = isObject(decoder)
    ? Object.entries(decoder).map(([id, token]) => [contentOf(token), Number(id)])
    : Object.entries(files.addedTokens ?? {});
  for (const [token, id] of entries) {
    if (typeof token === "string" && token !== "" && isTokenId(id)) continue;
    throw new ConfigError(`Cannot read the added tokens of ${name} as they must have a text and an id`, {
      source: name,
      key: "added_tokens_decoder",
      value: token,
    });
  }
  return entries as [string, number][];
}
