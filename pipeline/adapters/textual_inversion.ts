/**
 * Textual inversion (2208.01618): embeddings of words that a prompt can use, learned for a text
 * encoder. Files are safetensors in diffusers' form, one tensor named like its token, or in
 * A1111's, one tensor `emb_params` in a file named like its token.
 */

import { AdapterError } from "../errors.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";

/** What a file of textual inversion holds. */
export interface TextualInversion {
  /** The token that the file says. */
  readonly token: string;
  /** One embedding [width] for each vector of the token. */
  readonly vectors: readonly Float32Array[];
}

/** Names of the tensor in files that leave the token's name to the file. */
const unnamedKeys = ["emb_params", "string_to_param.*", "*"];

/**
 * Reads a file.
 *
 * @param options.width of the text encoder's embeddings
 * @throws {AdapterError} if it holds more than one tensor, or one that is no row or rows of `width`
 *   floats
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

/** The file's name without its folder and ending. */
function stem(path: string): string {
  return path.replace(/^.*[\\/]/, "").replace(/\.[^.]+$/, "");
}
