/** The interface through which an edit reads a model. */

import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { advise } from "../advice.ts";
import { EditError } from "../errors.ts";
import { encodeBatches, type HeldTexts } from "./encode_batches.ts";
import { either, kind, kinds, listOf, type OptionKind } from "../options.ts";
import type { AlignmentTokenizer } from "./prompts/alignment.ts";

/** A cross-attention layer, such as the UNet's `Attention`. */
export interface CrossAttentionLayer {
  /** The checkpoint's key of the layer: "down_blocks.0.attentions.0.transformer_blocks.0.attn2". */
  readonly path: string;
  /** The key projection W [features, width]. */
  readonly toK: { readonly weight: Tensor };
  /** The value projection W [features, width]. */
  readonly toV: { readonly weight: Tensor };
}

/** The kind of {@linkcode EditableModel}. */
export const editableKind: OptionKind = kind("a pipeline, or another model that can be edited", (value) => {
  const { tokenizer, crossAttentions, encodeTexts } = (value ?? {}) as Partial<EditableModel>;
  return kinds.object.accepts(tokenizer) && Array.isArray(crossAttentions) && typeof encodeTexts === "function";
});

/** A cross-attention layer as far as its sizes count. */
export interface SizedLayer {
  readonly path: string;
  readonly toV: { readonly weight: { readonly shape: readonly number[] } };
}

/** A model that can be edited: a text encoder with its tokenizer, and cross-attention layers. */
export interface EditableModel {
  /** The device that the weights are on. */
  readonly gpu: Gpu;
  /** The tokenizer of the text encoder. */
  readonly tokenizer: AlignmentTokenizer;
  /** Cross-attention layers in the order of the checkpoint's blocks. */
  readonly crossAttentions: readonly CrossAttentionLayer[];
  /**
   * The models that it consists of, as far as they know their files: edits and LoRAs are not
   * written over these.
   */
  readonly components?: object;
  /**
   * Encodes texts, padded and truncated to the tokenizer's length, as [texts, tokens, width]. The
   * caller disposes of the tensor.
   */
  encodeTexts(texts: readonly string[]): Tensor | Promise<Tensor>;
  /**
   * Holds the text encoder and the tokens of texts as they are now, so that they are encoded in
   * batches that can be interrupted. Default: all are encoded at once.
   */
  holdTexts?(texts: readonly string[]): HeldTexts;
  /**
   * Widths of the text encoders whose states stand side by side in {@linkcode encodeTexts}.
   * Default: there is one.
   */
  readonly encoderWidths?: readonly number[];
  /**
   * Encodes texts to pooled embeddings [texts, projection], for models that read some. The caller
   * disposes of the tensor.
   */
  encodePooled?(texts: readonly string[]): Tensor | Promise<Tensor>;
  /** The layer W [features, projection + …] that reads pooled embeddings by its first columns. */
  readonly pooledProjection?: { readonly weight: Tensor };
}

/**
 * Selects the layers that an edit changes, by path prefixes (whole path components) or by a
 * predicate.
 */
export type LayerChoice = readonly string[] | ((path: string) => boolean);

/** The kind of options that choose layers. */
export const layerChoiceKind: OptionKind = either(listOf(kinds.text, "strings"), kinds.callback);

/**
 * The selected layers of a model, among those that read embeddings of the given width.
 *
 * @param choice default: all layers
 * @throws {EditError} when no layer is selected
 */
export function chosenLayers<Layer extends SizedLayer>(
  model: { readonly crossAttentions: readonly Layer[] },
  width: number,
  choice?: LayerChoice,
): Layer[] {
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

/**
 * A model's encoder of pooled embeddings, for {@linkcode encodeOnHost}.
 *
 * @throws {EditError} for a model that reads no pooled embeddings
 */
export function pooledEncoder(model: Pick<EditableModel, "encodePooled">): Pick<EditableModel, "encodeTexts"> {
  if (model.encodePooled) return { encodeTexts: (texts) => model.encodePooled!(texts) };
  throw noPooledEmbedding();
}

/** The error for edits `withPooled` on a model that reads no pooled embeddings. */
export function noPooledEmbedding(): EditError {
  return new EditError(
    "Cannot map the pooled embedding of this model as it reads none, which only models of SDXL do: " +
      advise("leavePooledOut"),
  );
}

/**
 * Embeddings [tokens, width] of texts on the host, each text once; [width] for pooled embeddings.
 * All texts are read by the text encoder as it is now; see {@linkcode encodeBatches}.
 */
export async function encodeOnHost(
  model: Pick<EditableModel, "encodeTexts" | "holdTexts">,
  texts: Iterable<string>,
  { signal }: { signal?: AbortSignal } = {},
): Promise<{ embeddings: Map<string, Float32Array>; width: number }> {
  const unique = [...new Set(texts)];
  const embeddings = new Map<string, Float32Array>();
  let width = 0;
  for (const { from, to, shape, values } of await encodeBatches(model, unique, { signal })) {
    const each = values.length / (to - from);
    width = shape.at(-1)!;
    for (let i = from; i < to; i++) {
      embeddings.set(unique[i], values.subarray((i - from) * each, (i - from + 1) * each));
    }
  }
  return { embeddings, width };
}
