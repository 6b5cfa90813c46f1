import { ShapeError } from "../../engine/errors.ts";
import { roundUp } from "../../engine/memory/pool.ts";
import { Tensor } from "../../engine/tensor.ts";
import { copyMatrix } from "./copy_matrix.ts";
import { addProduct } from "./real_product.ts";

/** Options of {@linkcode gram}. */
export interface GramOptions {
  /** "rows" computes C·Cᵀ [n, n], "columns" computes Cᵀ·C [d, d]. Default: "rows". */
  readonly of?: "rows" | "columns";
  /**
   * With "columns": B [n, d] of the product Cᵀ·B, for example C with weighted rows. Default: C.
   */
  readonly weighted?: Tensor;
  /** Added to the diagonal: [n] or [d]. Default: none. */
  readonly diagonal?: Tensor;
}

/**
 * The Gram matrix of the rows of C [n, d], C·Cᵀ + diag(diagonal), or of its columns,
 * Cᵀ·C + diag(diagonal), in C's dtype. Only the lower triangle is computed, which halves the cost;
 * the rest is undefined. `cholesky` reads the lower triangle only.
 *
 * @throws {ShapeError} when `weighted` or `diagonal` does not match C
 */
export function gram(c: Tensor, options: GramOptions = {}): Tensor {
  const { of = "rows", weighted = c, diagonal } = options;
  const [n, d] = c.dims(2);
  const side = of === "rows" ? n : d;
  if (weighted.shape.join() !== c.shape.join() || (diagonal && diagonal.size !== side)) {
    throw new ShapeError(
      `Cannot compute the Gram matrix of the ${of} of [${n}, ${d}] with weighted rows [${
        weighted.shape.join(", ")
      }] and a diagonal of ${diagonal?.size ?? 0} elements as they must be [${n}, ${d}] and ${side} elements`,
      [c.shape, weighted.shape],
    );
  }
  return c.gpu.scope(() => {
    // addProduct() accesses vec4, so axes are padded to multiples of 4.
    const shape = [roundUp(n, 4), roundUp(d, 4)] as const;
    const fits = shape[0] === n && shape[1] === d;
    const [left, right] = [c, weighted].map((x) => fits ? x : copyMatrix({ matrix: x }, { shape }));
    const padded = roundUp(side, 4);
    const y = Tensor.empty(c.gpu, [padded, padded], c.dtype);
    addProduct(
      { matrix: y },
      [{ matrix: left }, { matrix: of === "rows" ? left : right }],
      { lowerOnly: true, transposeA: of === "columns", transposeB: of === "rows" },
    );
    return fits && !diagonal ? y : copyMatrix({ matrix: y }, { shape: [side, side], addDiagonal: diagonal });
  });
}
