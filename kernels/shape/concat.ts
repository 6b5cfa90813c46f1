import { DTypeError, ShapeError } from "../../engine/errors.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { copyBlock } from "./copy_block.ts";

/**
 * Concatenates tensors along one axis. All tensors must have the same dtype.
 *
 * @param axis counted from 0, outermost first
 * @throws {ShapeError} when there are no tensors, the axis does not exist, or the other axes differ
 * @throws {DTypeError} when the dtypes differ, or when f16 rows are not aligned to 4 bytes
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using a = Tensor.from(gpu, new Float32Array([1, 2]), [1, 2]);
 * using b = Tensor.from(gpu, new Float32Array([3]), [1, 1]);
 * using joined = concat([a, b], 1); // [[1, 2, 3]]
 * ```
 */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length === 0) throw new ShapeError("Cannot join tensors as at least one is required: 0 were given");
  const [{ gpu, shape, dtype }] = tensors;
  const refuse = (why: string) => {
    const all = tensors.map((tensor) => tensor.shape);
    throw new ShapeError(
      `Cannot join ${all.map((one) => `[${one.join(", ")}]`).join(", ")} along axis ${axis} as ${why}`,
      all,
    );
  };
  if (!(Number.isInteger(axis) && axis >= 0 && axis < shape.length)) refuse(`there are ${shape.length} axes`);
  const others = shape.with(axis, 0).join();
  for (const tensor of tensors) {
    if (tensor.shape.length !== shape.length || tensor.shape.with(axis, 0).join() !== others) {
      refuse("all other axes must agree");
    }
    if (tensor.dtype !== dtype) {
      throw new DTypeError(`Cannot join ${dtype} and ${tensor.dtype} tensors: cast them first`);
    }
  }
  const rows = elements(shape.slice(0, axis)), inner = elements(shape.slice(axis + 1));
  const length = tensors.reduce((sum, tensor) => sum + tensor.shape[axis], 0);
  return Tensor.filled(gpu, shape.with(axis, length), dtype, (y) => {
    let start = 0;
    for (const tensor of tensors) {
      const own = tensor.shape[axis] * inner;
      copyBlock({ tensor, start: 0, stride: own }, { tensor: y, start, stride: length * inner }, { rows, length: own });
      start += own;
    }
  });
}
