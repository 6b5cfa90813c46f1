/**
 * Predicts how much an edit affects prompts that it was not made for, from embeddings alone.
 *
 * @module
 */

import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import { checkArgument, checkOptions, kinds, listOf, wholeFrom } from "../options.ts";
import { type EditableModel, encodeOnHost, pooledEncoder } from "./editable_model.ts";
import { Tensor } from "../../engine/tensor.ts";
import { type LayerOperator, sharesOf } from "./edit_operators.ts";
import type { EditOperator } from "./operator.ts";
import type { EditRecipe } from "./prompts/recipe.ts";

/** The predicted effect of an edit on a prompt. */
export interface PredictedLeakage {
  /** The prompt. */
  readonly prompt: string;
  /**
   * ‖X(E − I)ᵀ‖ / ‖X‖ (Frobenius) of the prompt's embeddings X [tokens, width]. Of an edit with
   * several operators: the root mean square over its layers.
   */
  readonly leakage: number;
  /**
   * ‖(E − I)p‖ / ‖p‖ of the prompt's pooled embedding p, for edits `withPooled`; it is no part of
   * `leakage` and `share`.
   */
  readonly pooled?: number;
  /** The leakage over the mean leakage of the edit's sources: 1 is as much as a source prompt. */
  readonly share: number;
  /** The source prompt with the most similar end-token embedding, and their cosine similarity. */
  readonly nearest: { readonly source: string; readonly cosine: number };
  /** Whether the share exceeds `warnAbove`. */
  readonly warning: boolean;
}

/** @deprecated Use {@linkcode PredictedLeakage}. */
export type Foretold = PredictedLeakage;

/** The parts of an edit that the prediction reads; `ModelEdit` has them. */
export interface PredictableEdit {
  /** The operator E; or several, with the layers of each. */
  readonly operators: readonly LayerOperator[];
  /** The operator of the pooled embedding, of edits `withPooled`. */
  readonly pooledOperator?: EditOperator;
  /** The pairs and settings of the edit. */
  readonly recipe: EditRecipe;
  /** The model that encodes the prompts. */
  readonly model: EditableModel;
}

/**
 * Predicts the leakage of an edit into prompts, without running the UNet.
 *
 * @param given the prompts
 * @param options.warnAbove share of the sources' leakage above which `warning` is set. Default:
 *   0.5.
 * @returns one prediction per prompt, in the order of the prompts
 */
export async function predictLeakage(
  edit: PredictableEdit,
  given: readonly string[],
  options: { warnAbove?: number } = {},
): Promise<PredictedLeakage[]> {
  checkOptions("predict leakage", options, { warnAbove: kinds.finite });
  checkArgument("predict leakage", "prompts", given, listOf(kinds.text, "strings"));
  const { warnAbove = 0.5 } = options;
  const { recipe, model } = edit;
  using owned = new DisposableStack();
  // The edit may be solved again or disposed of meanwhile.
  const operators = sharesOf(edit.operators, owned);
  const pooledOperator = owned.use(edit.pooledOperator?.share());
  const prompts = [...given];
  const sources = [...new Set(recipe.pairs.map(({ source }) => source))];
  const texts = [...new Set([...sources, ...prompts])];
  const ends = texts.map((text) => model.tokenizer.encode(text, { truncation: true }).length - 1);
  const { embeddings, width } = await encodeOnHost(model, texts);
  const changes = await meanChanges(operators, texts.map((text) => embeddings.get(text)!), width);
  const pooled = pooledOperator && await pooledChanges(pooledOperator, model, prompts);
  const leakages = new Map(texts.map((text, i) => [text, changes[i]]));
  const meanOfSources = sources.reduce((sum, source) => sum + leakages.get(source)!, 0) / (sources.length || 1);
  const endTokens = new Map(
    texts.map((text, i) => [text, embeddings.get(text)!.subarray(ends[i] * width, (ends[i] + 1) * width)]),
  );
  return prompts.map((prompt, i) => {
    const leakage = leakages.get(prompt)!;
    const share = meanOfSources > 0 ? leakage / meanOfSources : 0;
    const end = endTokens.get(prompt)!;
    const nearest = sources.map((source) => ({ source, cosine: cosine(endTokens.get(source)!, end) }))
      .reduce((best, candidate) => candidate.cosine > best.cosine ? candidate : best);
    return { prompt, leakage, ...(pooled && { pooled: pooled[i] }), share, nearest, warning: share > warnAbove };
  });
}

/**
 * Suggests prompts to preserve: the candidates with the highest predicted leakage, in descending
 * order. The edit's own sources are left out.
 *
 * ```ts
 * const [worst] = await suggestPreserve(edit, ["a tulip", "a car", "a cat"], { count: 1 });
 * ```
 *
 * @param options.count how many to return. Default: all.
 */
export async function suggestPreserve(
  edit: PredictableEdit,
  candidates: readonly string[],
  options: { count?: number; warnAbove?: number } = {},
): Promise<PredictedLeakage[]> {
  checkOptions("suggest prompts to preserve", options, { count: wholeFrom(0), warnAbove: kinds.finite });
  const { count = candidates.length, warnAbove } = options;
  const sources = new Set(edit.recipe.pairs.map(({ source }) => source));
  const others = [...new Set(candidates)].filter((prompt) => !sources.has(prompt));
  if (others.length === 0) return [];
  const predictions = await predictLeakage(edit, others, { warnAbove });
  return predictions.sort((a, b) => b.leakage - a.leakage).slice(0, count);
}

/** Bounds the memory that the embeddings take on the device. */
const promptsPerBatch = 64;

/** The root mean square of each X's relative change over all layers. */
async function meanChanges(
  operators: readonly LayerOperator[],
  embeddings: readonly Float32Array[],
  width: number,
): Promise<number[]> {
  if (operators.length === 1) return await relativeChanges(operators[0].operator, embeddings, width);
  const count = operators.reduce((sum, { layers }) => sum + layers.length, 0);
  const sums = embeddings.map(() => 0);
  for (const { layers, operator } of operators) {
    const changes = await relativeChanges(operator, embeddings, width);
    changes.forEach((change, i) => sums[i] += layers.length * change ** 2);
  }
  return sums.map((sum) => Math.sqrt(sum / (count || 1)));
}

/** ‖(E − I)p‖ / ‖p‖ of each prompt's pooled embedding. */
async function pooledChanges(
  operator: EditOperator,
  model: EditableModel,
  prompts: readonly string[],
): Promise<number[]> {
  if (prompts.length === 0) return [];
  const { embeddings, width } = await encodeOnHost(pooledEncoder(model), prompts);
  return await relativeChanges(operator, prompts.map((prompt) => embeddings.get(prompt)!), width);
}

/** ‖X(E − I)ᵀ‖ / ‖X‖ of each X [tokens, width], computed in batches. */
async function relativeChanges(
  operator: EditOperator,
  embeddings: readonly Float32Array[],
  width: number,
): Promise<number[]> {
  const { gpu } = operator;
  const tokens = embeddings[0].length / width;
  const ratios: number[] = [];
  for (let first = 0; first < embeddings.length; first += promptsPerBatch) {
    const batch = embeddings.slice(first, first + promptsPerBatch);
    const rows = new Float32Array(batch.length * tokens * width);
    batch.forEach((values, i) => rows.set(values, i * tokens * width));
    const [changeNorms, norms] = gpu.scope(() => {
      const x = Tensor.from(gpu, rows, [batch.length, tokens * width]);
      const change = operator.change(x.reshape([batch.length, tokens, width])).reshape(x.shape);
      return [squaredNorms(change), squaredNorms(x)];
    });
    using disposables = new DisposableStack();
    for (const tensor of [changeNorms, norms]) disposables.use(tensor);
    const [change, whole] = await Promise.all([changeNorms.data(), norms.data()]);
    for (let i = 0; i < batch.length; i++) ratios.push(Math.sqrt(change[i] / (whole[i] || 1)));
  }
  return ratios;
}

function cosine(a: Float32Array, b: Float32Array): number {
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / (Math.sqrt(aa * bb) || 1);
}
