import type { Tensor } from "../../engine/tensor.ts";
import type { TileShape } from "./tile.ts";

/**
 * A batch of matrices inside a tensor, such as the heads of attention. Offsets and strides are in
 * elements.
 */
export interface MatrixView {
  readonly tensor: Tensor;
  /** First element of the first matrix. Default: 0. */
  readonly offset?: number;
  /** Distance between stored rows. */
  readonly rowStride: number;
  /** Distance between matrices along the outer batch axis; 0 shares one matrix. Default: 0. */
  readonly outerStride?: number;
  /** Distance between matrices along the inner batch axis; 0 shares one matrix. Default: 0. */
  readonly innerStride?: number;
}

/** Sizes and epilogue of gemm(). */
export interface GemmOptions {
  /** Rows of the result. */
  readonly m: number;
  /** Columns of the result. */
  readonly n: number;
  /** Length of the reduction axis. */
  readonly k: number;
  /** Length of the outer batch axis. Default: 1. */
  readonly outer?: number;
  /** Length of the inner batch axis. Default: 1. */
  readonly inner?: number;
  /** Whether A is stored [K, M]. Default: false. */
  readonly transposeA?: boolean;
  /** Whether B is stored [N, K]. Default: false. */
  readonly transposeB?: boolean;
  /** Added to each row or column of the result. Default: none. */
  readonly bias?: Tensor;
  /**
   * Whether the bias belongs to the columns ([N]) or the rows ([M]) of the result. Default:
   * "column".
   */
  readonly biasAxis?: "row" | "column";
  /** Added last; laid out like the result. */
  readonly residual?: Tensor;
  /** Factor of the product. Default: 1. */
  readonly scale?: number;
  /**
   * Whether B and the bias have 2·N columns, the second half of which gates the first: y = (scale ·
   * A·B₁ + bias₁) · gelu(scale · A·B₂ + bias₂). Requires a workgroup or half tile of two
   * columns, N divisible by 4, and no residual. See gatedProduct(). Default: false.
   */
  readonly gated?: boolean;
  /**
   * Whether the elements of A (in `half` tiles after `scale`) and B may be rounded to f16, a
   * relative error of 2⁻¹¹ each. They are rounded only where subgroup matrices or f16 arithmetic
   * are in use. See {@linkcode TileShape} for the error bounds. Default: false.
   */
  readonly allowF16Operands?: boolean;
  /** Tile shape, for the tuner and the tests. Default: by device and size. */
  readonly tile?: TileShape;
}
