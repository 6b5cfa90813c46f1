import { ShapeError } from "../../engine/errors.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { copyBlock } from "./copy_block.ts";

/**
 * Copies indices start … end − 1 of one axis. The other axes are copied whole. Any dtype.
 *
 * @param axis counted from 0, outermost first
 * @throws {ShapeError} when the axis does not exist, or the range exceeds it
 * @throws {DTypeError} when f16 rows are not aligned to 4 bytes
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([1, 2, 3, 4, 5, 6]), [2, 3]);
 * using y = slice(x, 1, 0, 2); // [[1, 2], [4, 5]]
 * ```
 */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  const { gpu, shape, dtype } = x;
  const length = shape[axis];
  const inRange = Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= length;
  if (length === undefined || !inRange) {
    throw new ShapeError(
      `Cannot slice ${start} … ${end} of axis ${axis} of [${shape.join(", ")}] as the range must lie in 0 … ${
        length ?? "an axis"
      }`,
      [shape],
    );
  }
  const rows = elements(shape.slice(0, axis)), inner = elements(shape.slice(axis + 1));
  return Tensor.filled(gpu, shape.with(axis, end - start), dtype, (y) => {
    const taken = (end - start) * inner;
    copyBlock(
      { tensor: x, start: start * inner, stride: length * inner },
      { tensor: y, start: 0, stride: taken },
      { rows, length: taken },
    );
  });
}
