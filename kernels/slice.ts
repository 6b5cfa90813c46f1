import { ShapeError } from "../engine/errors.ts";
import { elements, Tensor } from "../engine/tensor.ts";
import { copyBlock } from "./copy_block.ts";

/**
 * The part start ≤ index < end of one axis.
 *
 * @throws {ShapeError} when the axis or the range is not the tensor's
 */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  const length = x.shape[axis];
  if (length === undefined || !(0 <= start && start <= end && end <= length)) {
    throw new ShapeError(`Cannot take ${start} … ${end} of axis ${axis} of [${x.shape.join(", ")}]`, [x.shape]);
  }
  const inner = elements(x.shape.slice(axis + 1));
  const y = Tensor.empty(x.gpu, x.shape.with(axis, end - start));
  const taken = (end - start) * inner;
  copyBlock(
    { tensor: x, start: start * inner, stride: length * inner },
    { tensor: y, start: 0, stride: taken },
    { rows: elements(x.shape.slice(0, axis)), length: taken },
  );
  return y;
}
