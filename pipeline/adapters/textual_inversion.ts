/**
 * Textual inversion (arXiv 2208.01618): learned token embeddings for a text encoder. A safetensors
 * file holds one tensor. Diffusers names the tensor after the token; A1111 names the tensor
 * `emb_params` and the file after the token.
 */

import { AdapterError } from "../errors.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";

/** The contents of a textual inversion file. */
export interface TextualInversion {
  /** The token named by the file. */
  readonly token: string;
  /** One embedding [width] for each vector of the token. */
  readonly vectors: readonly Float32Array[];
}

/** Tensor names that carry no token; the token is the file name. */
const unnamedKeys = ["emb_params", "string_to_param.*", "*"];

/**
 * Reads a textual inversion file.
 *
 * @param options.width width of the text encoder's embeddings
 * @throws {AdapterError} unless the file holds exactly one tensor, of floats, shaped [width] or
 *   [vectors, width]
 */
export async function readTextualInversion(weights: Weights, options: { width: number }): Promise<TextualInversion> {
  const { width } = options;
  const source = weights.name, keys = [...weights.tensors.keys()];
  const refuse = (reason: string): AdapterError =>
    new AdapterError(
      `Cannot load ${source} as a textual inversion as ${reason}: it holds ${
        keys.slice(0, 12).join(", ") || "nothing"
      }`,
      { source, keys },
    );
  if (keys.includes("clip_l") || keys.includes("clip_g")) {
    throw refuse("it is for Stable Diffusion XL, and this model is of 1.x or 2.x");
  }
  if (keys.length !== 1) throw refuse(`there must be one tensor and there are ${keys.length}`);
  const [key] = keys;
  const { dtype, shape } = weights.info(key);
  const [count, actual] = shape.length === 1 ? [1, shape[0]] : shape;
  if (!["F16", "BF16", "F32", "F64"].includes(dtype)) throw refuse(`its numbers must be floats: ${dtype}`);
  if (shape.length < 1 || shape.length > 2 || count < 1 || actual !== width) {
    throw refuse(`this model's embeddings are ${width} wide and the file's tensor is [${shape.join(", ")}]`);
  }
  const values = await weights.float32(key);
  return {
    token: unnamedKeys.includes(key) ? stem(source) : key,
    vectors: Array.from({ length: count }, (_, i) => values.slice(i * width, (i + 1) * width)),
  };
}

/** The file name without folder and extension. */
function stem(path: string): string {
  return path.replace(/^.*[\\/]/, "").replace(/\.[^.]+$/, "");
}
