/** What an edit needs to know of the model that it is made for. */

import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { EditError } from "../errors.ts";
import type { AlignmentTokenizer } from "./prompts/alignment.ts";

/** A layer whose keys and values are read from the prompt; the UNet's `Attention` fits. */
export interface CrossAttentionLayer {
  /** The checkpoint's key of the layer: "down_blocks.0.attentions.0.transformer_blocks.0.attn2". */
  readonly path: string;
  /** W [features, width] of the keys. */
  readonly toK: { readonly weight: Tensor };
  /** W [features, width] of the values. */
  readonly toV: { readonly weight: Tensor };
}

/**
 * A model that can be edited: a text encoder with its tokenizer, and the layers that read what it
 * says.
 */
export interface EditableModel {
  /** The device that the weights are on. */
  readonly gpu: Gpu;
  /** The tokenizer of the text encoder. */
  readonly tokenizer: AlignmentTokenizer;
  /** Cross-attention layers in the order of the checkpoint's blocks. */
  readonly crossAttentions: readonly CrossAttentionLayer[];
  /**
   * Embeddings [texts, tokens, width] of texts, padded and cut to the tokenizer's length. The
   * tensor is the caller's.
   */
  encodeTexts(texts: readonly string[]): Tensor | Promise<Tensor>;
}

/**
 * Which layers an edit changes: all, those whose path begins with one of some prefixes, or those
 * that a function picks.
 */
export type LayerChoice = readonly string[] | ((path: string) => boolean);

/**
 * The layers of a model that a choice picks, of those that take embeddings of the edit's width.
 *
 * @throws {EditError} when it picks none: the edit would change nothing
 */
export function chosenLayers(model: EditableModel, width: number, choice?: LayerChoice): CrossAttentionLayer[] {
  const picks = typeof choice === "function"
    ? choice
    : (path: string) =>
      choice === undefined || choice.some((prefix) => path === prefix || path.startsWith(`${prefix}.`));
  const layers = model.crossAttentions.filter(({ path, toV }) => toV.weight.shape[1] === width && picks(path));
  if (layers.length > 0) return layers;
  const paths = model.crossAttentions.map(({ path, toV }) => `${path} (${toV.weight.shape[1]} wide)`);
  throw new EditError(
    `Cannot edit as no cross-attention layer matches ${
      typeof choice === "function" ? "the choice" : JSON.stringify(choice ?? "all")
    } and takes embeddings of width ${width}: the model has ${paths.join(", ") || "none"}`,
  );
}

/** Texts at a time: enough to fill the device, few enough for its memory. */
const batch = 16;

/** Embeddings [tokens, width] of texts on the host, each text once. */
export async function encodeOnHost(
  model: EditableModel,
  texts: Iterable<string>,
): Promise<{ embeddings: Map<string, Float32Array>; width: number }> {
  const unique = [...new Set(texts)];
  const embeddings = new Map<string, Float32Array>();
  let width = 0;
  for (let first = 0; first < unique.length; first += batch) {
    const some = unique.slice(first, first + batch);
    using encoded = await model.encodeTexts(some);
    const [, tokens, features] = encoded.dims(3);
    width = features;
    const values = await encoded.data();
    some.forEach((text, i) => embeddings.set(text, values.subarray(i * tokens * width, (i + 1) * tokens * width)));
  }
  return { embeddings, width };
}
