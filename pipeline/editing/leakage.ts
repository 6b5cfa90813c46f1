/** What an edit will do to prompts that it was not made for, foretold from embeddings alone. */

import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import { type EditableModel, encodeOnHost } from "./editable_model.ts";
import { Tensor } from "../../engine/tensor.ts";
import type { EditOperator } from "./operator.ts";
import type { EditRecipe } from "./prompts/recipe.ts";

/** A prompt's fate under an edit. */
export interface Foretold {
  readonly prompt: string;
  /** ‖(E − I)x‖ / ‖x‖ over the prompt's tokens. */
  readonly leakage: number;
  /** The same over that of the edit's own sources, on average: 1 moves like a source. */
  readonly share: number;
  /** The source prompt whose end token's embedding is most like this prompt's, and their cosine. */
  readonly nearest: { readonly source: string; readonly cosine: number };
  /** Whether the share is above the bound. */
  readonly warning: boolean;
}

/** What foretelling needs of an edit. */
export interface ForetellingEdit {
  readonly operator: EditOperator;
  readonly recipe: EditRecipe;
  readonly model: EditableModel;
}

/**
 * Leakage of an edit into prompts.
 *
 * @param options.warnAbove Share of the sources' own movement from which a prompt is warned of.
 *   Default: 0.5.
 */
export async function foretell(
  { operator, recipe, model }: ForetellingEdit,
  prompts: readonly string[],
  options: { warnAbove?: number } = {},
): Promise<Foretold[]> {
  const { warnAbove = 0.5 } = options;
  const sources = [...new Set(recipe.pairs.map(({ source }) => source))];
  const texts = [...new Set([...sources, ...prompts])];
  const { embeddings, width } = await encodeOnHost(model, texts);
  const movement = new Map<string, number>();
  for (const text of texts) movement.set(text, NaN);
  const moved = await movements(operator, texts.map((text) => embeddings.get(text)!), width);
  texts.forEach((text, i) => movement.set(text, moved[i]));
  const own = sources.reduce((sum, source) => sum + movement.get(source)!, 0) / (sources.length || 1);
  const ends = new Map(texts.map((text) => {
    const end = model.tokenizer.encode(text, { truncation: true }).length - 1;
    return [text, embeddings.get(text)!.subarray(end * width, (end + 1) * width)];
  }));
  return prompts.map((prompt) => {
    const leakage = movement.get(prompt)!;
    const share = own > 0 ? leakage / own : 0;
    const nearest = sources.map((source) => ({ source, cosine: cosine(ends.get(source)!, ends.get(prompt)!) }))
      .reduce((best, candidate) => candidate.cosine > best.cosine ? candidate : best);
    return { prompt, leakage, share, nearest, warning: share > warnAbove };
  });
}

/**
 * The candidates that an edit would move most, most endangered first: what to preserve. Sources of
 * the edit are left out.
 */
export async function suggestPreserve(
  edit: ForetellingEdit,
  candidates: readonly string[],
  options: { count?: number; warnAbove?: number } = {},
): Promise<Foretold[]> {
  const { count = candidates.length } = options;
  const sources = new Set(edit.recipe.pairs.map(({ source }) => source));
  const strangers = [...new Set(candidates)].filter((prompt) => !sources.has(prompt));
  if (strangers.length === 0) return [];
  const foretold = await foretell(edit, strangers, options);
  return foretold.sort((a, b) => b.leakage - a.leakage).slice(0, count);
}

/** ‖(E − I)x‖ / ‖x‖ of embeddings [tokens, width], in batches. */
async function movements(
  operator: EditOperator,
  embeddings: readonly Float32Array[],
  width: number,
): Promise<number[]> {
  const { gpu } = operator;
  const tokens = embeddings[0].length / width, batch = 64;
  const ratios: number[] = [];
  for (let first = 0; first < embeddings.length; first += batch) {
    const some = embeddings.slice(first, first + batch);
    const whole = new Float32Array(some.length * tokens * width);
    some.forEach((values, i) => whole.set(values, i * tokens * width));
    const [changes, sizes] = gpu.scope(() => {
      const x = Tensor.from(gpu, whole, [some.length, tokens * width]);
      const change = operator.change(x.reshape([some.length, tokens, width])).reshape(x.shape);
      return [squaredNorms(change), squaredNorms(x)];
    });
    using changed = changes;
    using sized = sizes;
    const [a, b] = await Promise.all([changed.data(), sized.data()]);
    for (let i = 0; i < some.length; i++) ratios.push(Math.sqrt(a[i] / (b[i] || 1)));
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
