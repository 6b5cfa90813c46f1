/**
 * Textual inversion (arXiv 2208.01618): learned token embeddings for a text encoder. Diffusers
 * names each tensor after its token. A1111 and trainers name the tensor after its role, and the
 * file after the token.
 */

import { AdapterError } from "../errors.ts";
import { floatDtypes } from "../checkpoint/safetensors/format.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import { nameText } from "../safe_text.ts";
import { maxVectors } from "../text/tokenizer.ts";
import { readFinite } from "./read_finite.ts";
import { familyOf, older, statedFamily, xl } from "./stated_family.ts";

/** One token and its embeddings. */
export interface TextualInversion {
  /** The token named by the file. */
  readonly token: string;
  /** One embedding [width] for each vector of the token. */
  readonly vectors: readonly Float32Array[];
  /** As many [width2] for the second text encoder, of SDXL. */
  readonly vectors2?: readonly Float32Array[];
}

/** Widths of the embeddings of a model's text encoders. */
export interface EmbeddingWidths {
  readonly width: number;
  /** That of the second, of SDXL. */
  readonly width2?: number;
}

/** Tensor names that carry no token; the token is the file name. */
const unnamedKeys = ["emb_params", "string_to_param.*", "string_to_param", "*", "clip_l", "text_encoders_0"];

/** Tensors for the text encoders of Stable Diffusion XL: the first and the second. */
const pairs = [["clip_l", "clip_g"], ["text_encoders_0", "text_encoders_1"]] as const;

/**
 * Reads a textual inversion file. Its tensors are shaped [width] or [vectors, width], one for each
 * token. A file for SDXL holds one token: `clip_l` for the first text encoder, `clip_g` for the
 * second.
 *
 * @param options.width width of the text encoder's embeddings
 * @param options.width2 that of the second text encoder, of SDXL
 * @param options.tokens replace the file's own tokens: as many, or for a single tensor as many as
 *   it has vectors
 * @throws {AdapterError} if a tensor has another shape, is not of floats, or is not finite
 */
export async function readTextualInversions(
  weights: Weights,
  options: EmbeddingWidths & { tokens?: readonly string[] },
): Promise<TextualInversion[]> {
  const source = weights.name;
  // A1111's table of tokens holds ids of its own tokenizer.
  const keys = [...weights.tensors.keys()].filter((key) => !key.startsWith("string_to_token"));
  const refuse = (reason: string): AdapterError =>
    new AdapterError(
      `Cannot load ${source} as a textual inversion as ${reason}: it holds ${
        keys.slice(0, 12).map((key) => nameText(key)).join(", ") || "nothing"
      }`,
      { source, keys },
    );
  const pair = pairs.find(([, second]) => keys.includes(second));
  const { width2, tokens } = options;
  const family = pair ? xl : statedFamily(weights.metadata), own = familyOf(width2);
  if (width2 === undefined && family === xl) throw refuse(`it is for ${xl}, and this model is ${own}`);
  if (keys.length === 0) throw refuse("there must be a tensor");
  if (width2 !== undefined) {
    if (!pair || keys.length !== 2 || !keys.includes(pair[0])) {
      const isHalf = keys.some((key) =>
        pairs.flat().some((half) => half === key) || weights.tensors.get(key)!.shape.at(-1) === width2
      );
      const whose = "whose two text encoders need a tensor each, clip_l and clip_g";
      throw refuse(isHalf ? `this model is ${xl}, ${whose}` : `it is for ${older}, and this model is ${xl}, ${whose}`);
    }
    const [first, second] = pair;
    const token = tokens?.length === 1 ? tokens[0] : stem(source);
    if (tokens && tokens.length !== 1) throw refuse(`${tokens.length} tokens are given for 1`);
    return [await readPair(weights, { token, key: first, key2: second }, { ...options, refuse })];
  }
  if (keys.length > 1 && keys.some((key) => unnamedKeys.includes(key))) {
    throw refuse(`there must be one tensor, or one named after each token, and there are ${keys.length}`);
  }
  const read: TextualInversion[] = [];
  for (const key of keys) {
    const vectors = await readEmbedding(weights, key, { ...options, refuse });
    read.push({ token: unnamedKeys.includes(key) ? stem(source) : key, vectors });
  }
  if (tokens === undefined) return read;
  if (tokens.length === read.length) return read.map(({ vectors }, i) => ({ token: tokens[i], vectors }));
  if (read.length === 1 && tokens.length === read[0].vectors.length) {
    return read[0].vectors.map((vector, i) => ({ token: tokens[i], vectors: [vector] }));
  }
  throw refuse(`${tokens.length} tokens are given for ${read.length}`);
}

/** Reads an embedding bundled with a LoRA. @throws {AdapterError} if it does not fit */
export async function readBundled(
  weights: Weights,
  { token, key, key2 }: { token: string; key: string; key2?: string },
  widths: EmbeddingWidths,
): Promise<TextualInversion> {
  const refuse = (reason: string) =>
    new AdapterError(`Cannot load ${weights.name} as the embedding ${nameText(key)} does not fit: ${reason}`, {
      source: weights.name,
      keys: [key],
    });
  if ((key2 === undefined) !== (widths.width2 === undefined)) {
    throw refuse(key2 === undefined ? "it lacks that of SDXL's second text encoder, clip_g" : "it is for SDXL");
  }
  return await readPair(weights, { token, key, key2 }, { ...widths, refuse });
}

/** Reads the embeddings of each text encoder, of which there must be as many. */
async function readPair(
  weights: Weights,
  { token, key, key2 }: { token: string; key: string; key2?: string },
  { width, width2, refuse }: EmbeddingWidths & { refuse: (reason: string) => AdapterError },
): Promise<TextualInversion> {
  const vectors = await readEmbedding(weights, key, { width, refuse });
  if (key2 === undefined || width2 === undefined) return { token, vectors };
  const vectors2 = await readEmbedding(weights, key2, { width: width2, refuse });
  if (vectors2.length === vectors.length) return { token, vectors, vectors2 };
  throw refuse(`its text encoders have ${vectors.length} and ${vectors2.length} vectors, and must have as many`);
}

async function readEmbedding(
  weights: Weights,
  key: string,
  { width, refuse }: { width: number; refuse: (reason: string) => AdapterError },
): Promise<Float32Array[]> {
  const { dtype, shape } = weights.info(key);
  const [count, actual] = shape.length === 1 ? [1, shape[0]] : shape;
  if (!floatDtypes.includes(dtype)) throw refuse(`its numbers must be floats: ${dtype}`);
  if (shape.length < 1 || shape.length > 2 || count < 1 || actual !== width) {
    throw refuse(`this model's embeddings are ${width} wide and the file's tensor is [${shape.join(", ")}]`);
  }
  if (count > maxVectors) throw refuse(`it may have ${maxVectors} vectors at most, and has ${count}`);
  const { data } = await readFinite(weights, key);
  return Array.from({ length: count }, (_, i) => data.slice(i * width, (i + 1) * width));
}

/** The file name without folder and extension. */
function stem(path: string): string {
  return path.replace(/^.*[\\/]/, "").replace(/\.[^.]+$/, "");
}
