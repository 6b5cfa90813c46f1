/** What several edits in a row do to embeddings, and to the weights that read them. */

import type { Tensor } from "../../engine/tensor.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { slice } from "../../kernels/shape/slice.ts";
import type { EditOperator, OperatorFactors } from "./operator.ts";

/** An operator of an edit, with the edit's strength. */
export interface Step<Edit> {
  readonly edit: Edit;
  readonly operator: EditOperator;
  readonly strength: number;
}

/** E₁E₂…x for each prompt of a batch, with the edits selected for that prompt. */
export function applySteps<Edit>(
  embeddings: Tensor,
  active: readonly Step<Edit>[],
  perPrompt: readonly (readonly Edit[])[] | undefined,
): Tensor {
  const apply = (x: Tensor, steps: readonly Step<Edit>[]) =>
    steps.toReversed().reduce((x, { operator, strength }) => operator.apply(x, { strength }), x);
  const selections = perPrompt?.map((selection) => active.filter(({ edit }) => selection.includes(edit)));
  return embeddings.gpu.scope(() => {
    // a view, so that the caller may dispose of the result
    const whole = embeddings.reshape(embeddings.shape);
    if (!selections || selections.every((steps) => steps.length === active.length)) return apply(whole, active);
    return concat(selections.map((steps, row) => apply(slice(whole, 0, row, row + 1), steps)), 0);
  });
}

/** The factors of an operator, with its strength. */
export interface Factors extends OperatorFactors {
  readonly strength: number;
}

export function factorsOf({ operator, strength }: Step<unknown>): Factors {
  return { ...operator.factors, strength };
}

/** W·E₁·E₂·…; within the caller's scope. */
export function folded(weight: Tensor, steps: readonly Factors[]): Tensor {
  let result = weight.reshape(weight.shape);
  for (const { left, right, strength } of steps) {
    result = right
      ? matmul(matmul(result, left, { transposeB: true, scale: strength }), right, { residual: result })
      : matmul(result, left, { transposeB: true, scale: strength, residual: result });
  }
  return result;
}
