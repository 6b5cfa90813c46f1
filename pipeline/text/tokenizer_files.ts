/**
 * The files of a tokenizer folder.
 *
 * @module
 */

import * as v from "valibot";
import { CheckpointError, ConfigError } from "../errors.ts";
import { anyText, boolean, fields, validate } from "../schema.ts";
import { maxSize, readObject } from "../checkpoint/diffusers/config/fields.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { shown } from "../shown.ts";

/** CLIP's vocabulary has 49152 − 256 − 2 merges. The reference ignores further lines. */
const maxMerges = 49152 - 256 - 2;

/** The longest text of a token that a prompt is searched for, in UTF-16 units. */
export const maxTokenLength = 1000;

/** Lengths of prompts from here on mean that there is no limit. */
export const noLimit = 1e6;

const limit = "a whole number from 2";

function isLimit(value: number): boolean {
  return Number.isInteger(value) && value >= 2;
}

/** The parsed files of a tokenizer folder. */
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
 * Reads the files of a tokenizer folder: `vocab.json` and `merges.txt`, or else `tokenizer.json`.
 *
 * @param options.padToken Replaces the folder's padding token.
 * @throws {CheckpointError} if it has neither, or a file is not JSON
 * @throws {ConfigError} if `tokenizer.json` is not CLIP's
 */
export async function readTokenizerFiles(tree: FileTree, options: { padToken?: string } = {}): Promise<TokenizerFiles> {
  const lacks: string[] = [];
  for (const path of ["vocab.json", "merges.txt"]) if (!await tree.has(path)) lacks.push(path);
  const isFast = lacks.length > 0 && await tree.has(fastTokenizer);
  if (lacks.length > 0 && !isFast) {
    throw new CheckpointError(
      `Cannot load the tokenizer ${tree.name}: it has no ${
        lacks[0]
      }; required: vocab.json and merges.txt, or ${fastTokenizer}`,
      { source: tree.name },
    );
  }
  const read = async (path: string) => await tree.has(path) ? await readObject(tree, path) : undefined;
  const padding = options.padToken === undefined ? {} : { pad_token: options.padToken };
  const config = { ...await read("tokenizer_config.json"), ...padding };
  const specialTokensMap = { ...await read("special_tokens_map.json"), ...padding };
  const addedTokens = await read("added_tokens.json");
  if (isFast) {
    const fast = readFastTokenizer(await read(fastTokenizer), `${tree.name}/${fastTokenizer}`);
    return {
      vocab: fast.vocab,
      merges: fast.merges,
      // What the configuration says goes first; it may be missing altogether.
      config: { ...fast.specialTokens, ...config },
      specialTokensMap,
      addedTokens: addedTokens ?? fast.addedTokens,
    };
  }
  return {
    vocab: await read("vocab.json") as Record<string, number>,
    merges: await tree.readText("merges.txt"),
    config,
    specialTokensMap,
    addedTokens,
  };
}

/** The file of transformers' fast tokenizers, which holds all of the others. */
const fastTokenizer = "tokenizer.json";

/**
 * Takes CLIP's vocabulary, merges and added tokens out of a `tokenizer.json`.
 *
 * @throws {ConfigError} for a tokenizer that is not CLIP's byte-pair encoding
 */
function readFastTokenizer(json: unknown, file: string): {
  vocab: Record<string, number>;
  merges: string;
  addedTokens: Record<string, unknown>;
  specialTokens: Record<string, string>;
} {
  const refuse = (key: string, value: unknown, supported: string): never => {
    throw new ConfigError(`Cannot load ${file} as its ${key} is ${shown(value)}; supported: ${supported}`, {
      source: file,
      key,
      value,
    });
  };
  const { model, added_tokens: added = [], padding } = json as Record<string, unknown>;
  if (!isObject(model)) return refuse("model", model ?? null, "an object");
  if ((model.type ?? "BPE") !== "BPE") refuse("model.type", model.type, '"BPE", as CLIP has it');
  if (model.end_of_word_suffix !== "</w>") {
    refuse("model.end_of_word_suffix", model.end_of_word_suffix ?? null, '"</w>", as CLIP has it');
  }
  const { vocab, merges } = model;
  if (!isObject(vocab)) return refuse("model.vocab", vocab ?? null, "an object");
  if (!Array.isArray(merges)) return refuse("model.merges", merges ?? null, "a list");
  const lines = merges.map((pair) => lineOf(pair) ?? refuse("model.merges", pair, "pairs of texts"));
  if (!Array.isArray(added) || !added.every(isObject)) return refuse("added_tokens", added, "a list of objects");
  const texts = new Set<string>();
  for (const { content } of added) {
    if (typeof content !== "string" || texts.has(content)) {
      return refuse("added_tokens", content ?? null, "objects with a content that stands once");
    }
    texts.add(content);
  }
  const padToken = isObject(padding) ? padding.pad_token : undefined;
  return {
    vocab: vocab as Record<string, number>,
    merges: ["#version: 0.2", ...lines].join("\n"),
    addedTokens: Object.fromEntries(added.map(({ content, id }) => [content as string, id])),
    specialTokens: {
      ...(typeof model.unk_token === "string" ? { unk_token: model.unk_token } : {}),
      ...(typeof padToken === "string" ? { pad_token: padToken } : {}),
    },
  };
}

/** A line of `merges.txt`; a pair is a text with a space in old files, a list in new ones. */
function lineOf(pair: unknown): string | undefined {
  const isList = Array.isArray(pair) && pair.length === 2 && pair.every((text) => typeof text === "string");
  const line: unknown = isList ? pair.join(" ") : pair;
  return typeof line === "string" && /^\S+ \S+$/.test(line) ? line : undefined;
}

/** The files of the same tokenizer with another padding token. */
export function withPadToken(files: TokenizerFiles, padToken: string): TokenizerFiles {
  const padding = { pad_token: padToken };
  return {
    ...files,
    config: { ...files.config, ...padding },
    specialTokensMap: { ...files.specialTokensMap, ...padding },
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The text of a token in a configuration: a string, or an object with `content`. */
export function contentOf(token: unknown): string | undefined {
  if (typeof token === "string") return token;
  return isObject(token) && typeof token.content === "string" ? token.content : undefined;
}

/** Token ids are rows of an embedding table, and so below its largest size. */
function isTokenId(id: unknown): id is number {
  return Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < maxSize;
}

/** @throws {ConfigError} if the vocabulary does not map each token to an id of its own */
export function readVocab(vocab: Readonly<Record<string, unknown>>, name: string): Map<string, number> {
  const ids = new Map<string, number>(), tokens = new Map<number, string>();
  const refuse = (reason: string, key: string, value?: unknown): never => {
    throw new ConfigError(`Cannot load ${name}/vocab.json: it must map tokens to ids, and ${reason}`, {
      source: `${name}/vocab.json`,
      key,
      value,
    });
  };
  for (const [token, id] of Object.entries(vocab)) {
    if (!isTokenId(id)) {
      return refuse(`${shown(token)} is ${shown(id)} (an id is a whole number below ${maxSize})`, token, id);
    }
    const other = tokens.get(id);
    if (other !== undefined) refuse(`${shown(other)} and ${shown(token)} are both ${id}`, token, id);
    ids.set(token, id);
    tokens.set(id, token);
  }
  return ids.size > 0 ? ids : refuse("it is empty", "");
}

/** The pairs to merge, by priority. The first line holds a version and is skipped. */
export function readMerges(text: string): [string, string][] {
  return text.trim().split(/\r?\n/).slice(1, 1 + maxMerges).map((line) => line.trim().split(/\s+/) as [string, string]);
}

/**
 * Tokens that the folder adds to the vocabulary, with their ids.
 *
 * @param vocab the tokens' own ids: an added token may stand in it too, with the same id
 * @throws {ConfigError} if one lacks its text or its id, or takes the id of another
 */
export function readAddedTokens(
  files: TokenizerFiles,
  name: string,
  vocab: ReadonlyMap<string, number>,
): [string, number][] {
  const decoder = files.config?.added_tokens_decoder ?? undefined;
  const refuse = (reason: string, value: unknown): never => {
    throw new ConfigError(`Cannot load the added tokens of ${name}: ${reason}`, {
      source: name,
      key: decoder === undefined ? "added_tokens" : "added_tokens_decoder",
      value,
    });
  };
  if (decoder !== undefined && !isObject(decoder)) {
    return refuse(`added_tokens_decoder must map ids to tokens, not ${shown(decoder)}`, decoder);
  }
  const entries: [unknown, unknown][] = decoder !== undefined
    ? Object.entries(decoder).map(([id, token]) => [contentOf(token), /^\d+$/.test(id) ? Number(id) : id])
    : Object.entries(files.addedTokens ?? {});
  const added = new Map<string, number>(), tokens = new Map([...vocab].map(([token, id]) => [id, token]));
  for (const [token, id] of entries) {
    if (typeof token !== "string" || token === "" || token.length > maxTokenLength || !isTokenId(id)) {
      const form = `each needs a text of 1 to ${maxTokenLength} characters and an id`;
      return refuse(`${form}, and ${shown(token)} has id ${shown(id)}`, token);
    }
    const other = tokens.get(id), known = added.get(token) ?? vocab.get(token);
    if (other !== undefined && other !== token) refuse(`${shown(token)} has the id of ${shown(other)}, ${id}`, token);
    if (known !== undefined && known !== id) refuse(`${shown(token)} has two ids, ${known} and ${id}`, token);
    added.set(token, id);
    tokens.set(id, token);
  }
  return [...added];
}

/** A special token in a configuration, or none. */
const tokenSchema = v.nullish(v.union([anyText(), fields({ content: anyText() })], "a token"));

const settingsSchema = fields({
  bos_token: tokenSchema,
  eos_token: tokenSchema,
  unk_token: tokenSchema,
  pad_token: tokenSchema,
  additional_special_tokens: v.nullish(v.array(tokenSchema, "a list of tokens")),
  clean_up_tokenization_spaces: v.nullish(boolean()),
  // transformers writes 10^30 for "no limit".
  model_max_length: v.nullish(v.pipe(v.number(limit), v.check((value) => value >= noLimit || isLimit(value), limit))),
});

/** What counts of the settings of a tokenizer. */
export type TokenizerSettings = v.InferOutput<typeof settingsSchema>;

/**
 * The settings of a folder.
 *
 * @throws {ConfigError} for a value of another kind
 */
export function readTokenizerSettings(files: TokenizerFiles, name: string): TokenizerSettings {
  const config = files.config ?? {};
  // A config with added_tokens_decoder is complete. In older folders special_tokens_map.json
  // overrides the config.
  const settings = config.added_tokens_decoder == null ? { ...config, ...files.specialTokensMap } : config;
  return validate(settingsSchema, settings, (reason) => {
    const key = /^\w+/.exec(reason)?.[0] ?? "";
    return new ConfigError(`Cannot load the tokenizer ${name} as its ${reason}`, {
      source: name,
      key,
      value: settings[key],
    });
  });
}
