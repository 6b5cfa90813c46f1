import { ShapeError } from "../engine/errors.ts";
import { elements, Tensor } from "../engine/tensor.ts";
import { copyBlock } from "./copy_block.ts";

/**
 * Tensors joined along one axis; all other axes agree.
 *
 * @throws {ShapeError} when they do not, or the list is empty
 */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  const [first] = tensors;
  if (!first) throw new ShapeError("Cannot join no tensors: give one at least");
  for (const { shape } of tensors) {
    if (shape.length !== first.shape.length || shape.with(axis, 0).join() !== first.shape.with(axis, 0).join()) {
      throw new ShapeError(
        `Cannot join [${first.shape.join(", ")}] and [${
          shape.join(", ")
        }] along axis ${axis} as all other axes must agree`,
        [first.shape, shape],
      );
    }
  }
  const total = tensors.reduce((sum, { shape }) => sum + shape[axis], 0);
  const inner = elements(first.shape.slice(axis + 1)), rows = elements(first.shape.slice(0, axis));
  const y = Tensor.empty(first.gpu, first.shape.with(axis, total));
  let start = 0;
  for (const tensor of tensors) {
    const length = tensor.shape[axis] * inner;
    copyBlock({ tensor, start: 0, stride: length }, { tensor: y, start, stride: total * inner }, { rows, length });
    start += length;
  }
  return y;
}
