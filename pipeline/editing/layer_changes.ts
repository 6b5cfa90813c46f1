/**
 * Measures how much an edit changes the weights of each layer.
 *
 * @module
 */

import { Tensor } from "../../engine/tensor.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import type { CrossAttentionLayer } from "./editable_model.ts";
import type { EditOperator } from "./operator.ts";

/**
 * How much an edit changes the weights of one layer: ‖W(E − I)‖ / ‖W‖ (Frobenius) of its key and
 * value projections. `toK` is undefined when the keys are not edited.
 */
export interface LayerChange {
  /** The checkpoint's key of the layer. */
  readonly layer: string;
  /** Relative change of the key projection. */
  readonly toK: number | undefined;
  /** Relative change of the value projection. */
  readonly toV: number;
}

/**
 * ‖W(E − I)‖ / ‖W‖ of the projections of layers. Costs about 2 · rank multiplications per weight.
 *
 * @param options.withToK whether the key projections are edited
 */
export async function relativeChanges(
  operator: EditOperator,
  layers: readonly CrossAttentionLayer[],
  { withToK }: { withToK: boolean },
): Promise<LayerChange[]> {
  const norms = operator.gpu.scope(() =>
    layers.map(({ toK, toV }) => ({
      toK: withToK ? changeNorms(operator, toK.weight) : [],
      toV: changeNorms(operator, toV.weight),
    }))
  );
  const ratio = async ([change, weight]: Tensor[]) => {
    const [a, b] = await Promise.all([change.data(), weight.data()]);
    change[Symbol.dispose]();
    weight[Symbol.dispose]();
    const total = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0);
    return Math.sqrt(total(a) / (total(b) || 1));
  };
  return await Promise.all(layers.map(async ({ path }, i) => ({
    layer: path,
    toK: norms[i].toK.length > 0 ? await ratio(norms[i].toK) : undefined,
    toV: await ratio(norms[i].toV),
  })));
}

/** Squared norms of the rows of W(E − I), and of the rows of W. */
function changeNorms({ gpu, factors }: EditOperator, weight: Tensor): Tensor[] {
  const { left, right } = factors;
  if (left.size === 0) return [Tensor.from(gpu, new Float32Array(1), [1]), squaredNorms(weight)];
  const up = matmul(weight, left, { transposeB: true }); // W Pᵀ [features, rank]
  return [squaredNorms(right ? matmul(up, right) : up), squaredNorms(weight)];
}
