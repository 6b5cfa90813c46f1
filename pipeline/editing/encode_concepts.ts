/** Encodes prompts by their last subject tokens. @module */

import { Tensor } from "../../engine/tensor.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import type { EditableModel } from "./editable_model.ts";
import { lastTokenPosition } from "./prompts/concepts.ts";

/** Texts per batch. Of each batch, only one row per text is kept. */
const batch = 16;

/**
 * Embeddings [width] of the last subject tokens of texts on the host, each text once. As in
 * `encodeOnHost`, all batches are recorded before the first wait. The other states of a batch are
 * released at once, so that thousands of texts take little memory.
 */
export async function encodeConcepts(
  model: EditableModel,
  texts: Iterable<string>,
): Promise<Map<string, Float32Array>> {
  const unique = [...new Set(texts)];
  const batches: { texts: string[]; rows: Tensor | Promise<Tensor> }[] = [];
  for (let first = 0; first < unique.length; first += batch) {
    const some = unique.slice(first, first + batch);
    const encoded = model.encodeTexts(some);
    const rows = encoded instanceof Tensor
      ? lastTokens(model, some, encoded)
      : encoded.then((states) => lastTokens(model, some, states));
    batches.push({ texts: some, rows });
  }
  using held = new DisposableStack();
  const settled = await Promise.allSettled(batches.map(({ rows }) => rows));
  for (const result of settled) if (result.status === "fulfilled") held.use(result.value);
  const concepts = new Map<string, Float32Array>();
  for (const [index, result] of settled.entries()) {
    if (result.status === "rejected") throw result.reason;
    const [, width] = result.value.dims(2);
    const values = await result.value.data();
    batches[index].texts.forEach((text, i) => concepts.set(text, values.subarray(i * width, (i + 1) * width)));
  }
  return concepts;
}

/** The last tokens' rows [texts, width] of states [texts, tokens, width], which are released. */
function lastTokens({ gpu, tokenizer }: EditableModel, texts: readonly string[], states: Tensor): Tensor {
  using owned = states;
  const [count, tokens, width] = owned.dims(3);
  return gpu.scope(() => {
    const at = Int32Array.from(texts, (text, i) => i * tokens + lastTokenPosition(text, tokenizer));
    return embedding(owned.reshape([count * tokens, width]), Tensor.from(gpu, at, [count]));
  });
}
