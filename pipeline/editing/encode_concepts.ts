/** Encodes prompts by their last subject tokens. @module */

import { Tensor } from "../../engine/tensor.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import type { EditableModel } from "./editable_model.ts";
import { encodeBatches } from "./encode_batches.ts";
import { lastTokenPosition } from "./prompts/concepts.ts";

/**
 * Embeddings [width] of the last subject tokens of texts on the host, each text once. The other
 * states of a batch are released at once, so that thousands of texts take little memory.
 *
 * @throws the signal's reason when it aborts
 */
export async function encodeConcepts(
  model: EditableModel,
  texts: Iterable<string>,
  { signal }: { signal?: AbortSignal } = {},
): Promise<Map<string, Float32Array>> {
  const unique = [...new Set(texts)];
  const positions = unique.map((text) => lastTokenPosition(text, model.tokenizer));
  const select = (states: Tensor, from: number, to: number) => rowsAt(states, positions.slice(from, to));
  const concepts = new Map<string, Float32Array>();
  for (const { from, to, values } of await encodeBatches(model, unique, { signal, select })) {
    const width = values.length / (to - from);
    for (let i = from; i < to; i++) {
      concepts.set(unique[i], values.subarray((i - from) * width, (i - from + 1) * width));
    }
  }
  return concepts;
}

/** A row of each text [texts, width] of states [texts, tokens, width], which are released. */
function rowsAt(states: Tensor, positions: readonly number[]): Tensor {
  using owned = states;
  const [count, tokens, width] = owned.dims(3);
  return owned.gpu.scope(() => {
    const at = Int32Array.from(positions, (position, i) => i * tokens + position);
    return embedding(owned.reshape([count * tokens, width]), Tensor.from(owned.gpu, at, [count]));
  });
}
