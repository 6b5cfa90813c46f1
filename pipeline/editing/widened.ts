import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";

/**
 * Rows [count, own] with zeros added up to a width: factors of an operator on the first columns of
 * what a layer reads.
 */
export function widened(rows: Tensor, width: number): Tensor {
  const [count, own] = rows.dims(2);
  const zeros = Tensor.from(rows.gpu, new Float32Array(count * (width - own)), [count, width - own]);
  return concat([rows, zeros], 1);
}
