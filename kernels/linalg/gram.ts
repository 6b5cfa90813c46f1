import { ShapeError } from "../../engine/errors.ts";
import { roundUp } from "../../engine/memory/pool.ts";
import { Tensor } from "../../engine/tensor.ts";
import { copyMatrix } from "./copy_matrix.ts";
import { addProduct } from "./real_product.ts";

/** Which Gram matrix {@linkcode gram} makes. */
export interface GramOptions {
  /** "rows": C·Cᵀ [n, n]; "columns": Cᵀ·C [d, d]. Default: "rows". */
  readonly of?: "rows" | "columns";
  /** For "columns", Cᵀ·B in place of Cᵀ·C, with B [n, d]: C with weighted rows, say. Default: C. */
  readonly weighted?: Tensor;
  /** Added to the diagonal: [n] or [d]. Default: none. */
  readonly diagonal?: Tensor;
}

/**
 * C·Cᵀ + diag of the rows of C [n, d], or Cᵀ·C + diag of its columns, in C's own type. Only the
 * lower triangle is filled (the rest is undefined): it is what `cholesky` reads, at half the price.
 *
 * @throws {ShapeError} when `weighted` or `diagonal` do not fit C
 */
export function gram(c: Tensor, options: GramOptions = {}): Tensor {
  const { of = "rows", weighted = c, diagonal } = options;
  const [n, d] = c.dims(2);
  const side = of === "rows" ? n : d;
  if (weighted.shape.join() !== c.shape.join() || (diagonal && diagonal.size !== side)) {
    throw new ShapeError(
      `Cannot make the Gram matrix of ${of} of [${n}, ${d}] with weighted rows [${
        weighted.shape.join(", ")
      }] and a diagonal of ${diagonal?.size ?? 0} as they must be [${n}, ${d}] and ${side} long`,
      [c.shape, weighted.shape],
    );
  }
  return c.gpu.scope(() => {
    // Tiles move four numbers at a time.
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
