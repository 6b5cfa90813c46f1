/**
 * The files of a tokenizer folder.
 *
 * @module
 */

import { CheckpointError, ConfigError } from "../errors.ts";
import { maxSize, readObject } from "../checkpoint/diffusers/config/fields.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { shown } from "../shown.ts";

/** CLIP's vocabulary has 49152 − 256 − 2 merges. The reference ignores further lines. */
const maxMerges = 49152 - 256 - 2;

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
  // A pair is a text with a space in old files, and a list of two in new ones.
  const lines = merges.map((pair) => Array.isArray(pair) ? pair.join(" ") : String(pair));
  if (!Array.isArray(added) || !added.every(isObject)) return refuse("added_tokens", added, "a list of objects");
  const padToken = isObject(padding) ? padding.pad_token : undefined;
  return {
    vocab: vocab as Record<string, number>,
    merges: ["#version: 0.2", ...lines].join("\n"),
    addedTokens: Object.fromEntries(added.map(({ content, id }) => [String(content), id])),
    specialTokens: {
      ...(typeof model.unk_token === "string" ? { unk_token: model.unk_token } : {}),
      ...(typeof padToken === "string" ? { pad_token: padToken } : {}),
    },
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

/** @throws {ConfigError} if the vocabulary does not map tokens to ids */
export function readVocab(vocab: Readonly<Record<string, unknown>>, name: string): Map<string, number> {
  const entries = Object.entries(vocab);
  const fault = entries.find(([, id]) => !isTokenId(id));
  if (fault === undefined && entries.length > 0) return new Map(entries as [string, number][]);
  const [key, value] = fault ?? ["", undefined];
  throw new ConfigError(
    fault === undefined
      ? `Cannot load ${name}/vocab.json: it must map tokens to ids, and it is empty`
      : `Cannot load ${name}/vocab.json: it must map tokens to ids, and ${shown(key)} is ${
        shown(value)
      } (an id is a whole number below ${maxSize})`,
    { source: `${name}/vocab.json`, key, value },
  );
}

/** The pairs to merge, by priority. The first line holds a version and is skipped. */
export function readMerges(text: string): [string, string][] {
  return text.trim().split(/\r?\n/).slice(1, 1 + maxMerges).map((line) => line.trim().split(/\s+/) as [string, string]);
}

/**
 * Tokens that the folder adds to the vocabulary, with their ids.
 *
 * @throws {ConfigError} if one lacks its text or its id
 */
export function readAddedTokens(files: TokenizerFiles, name: string): [string, number][] {
  const decoder = files.config?.added_tokens_decoder;
  const entries: [unknown, unknown][] = isObject(decoder)
    ? Object.entries(decoder).map(([id, token]) => [contentOf(token), Number(id)])
    : Object.entries(files.addedTokens ?? {});
  for (const [token, id] of entries) {
    if (typeof token === "string" && token !== "" && isTokenId(id)) continue;
    throw new ConfigError(
      `Cannot load the added tokens of ${name}: each needs a text and an id, and ${shown(token)} has id ${shown(id)}`,
      {
        source: name,
        key: "added_tokens_decoder",
        value: token,
      },
    );
  }
  return entries as [string, number][];
}
