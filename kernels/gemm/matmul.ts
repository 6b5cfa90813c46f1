import type { DType } from "../../engine/dtype.ts";
import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { policyOf } from "../policy.ts";
import { activate } from "../shape/activate.ts";
import { add } from "../shape/linear_combination.ts";
import type { Activation } from "../wgsl/activation.ts";
import { gemm, type GemmOptions } from "./gemm.ts";
import { sumParts } from "./split_k_sum.ts";
import { tileConstants, tileGrid, type TileShape } from "./tile.ts";

/** Options of {@linkcode matmul}; see {@linkcode GemmOptions}. */
export interface MatmulOptions extends Omit<GemmOptions, "m" | "n" | "k" | "outer" | "inner" | "gated"> {
  /**
   * Applied in a separate pass, before the residual: few products need one, and fusing it would
   * compile a kernel variant each. Default: none.
   */
  readonly activation?: Activation;
  /**
   * Dtype of the result: f32, or f16 where N is divisible by 4. It is not derived from the
   * operands, as either may be the weight. Default: f32.
   */
  readonly dtype?: DType;
  /**
   * Number of parts into which K is split. They are computed in parallel, then summed in order.
   * Must divide K. Default: by device and size.
   */
  readonly splits?: number;
}

/**
 * y = activation(scale · A·B + bias) + residual.
 *
 * @param a [..., M, K], or [..., K, M] with `transposeA`; f32 or f16
 * @param b [..., K, N], or [..., N, K] with `transposeB`; f32 or f16. An operand without batch axes
 *   is shared by the whole batch.
 * @returns [..., M, N] of `dtype`; sums are f32
 * @throws {ShapeError} when inner axes, batch axes, bias or residual do not match
 * @throws {DTypeError} when the result is f16 and N is not a multiple of 4
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array(6).fill(1), [2, 3]);
 * using weight = Tensor.from(gpu, new Float32Array(12).fill(2), [4, 3]);
 * using y = matmul(x, weight, { transposeB: true }); // [2, 4] of sixes
 * ```
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false, dtype = "f32", allowF16Operands } = options;
  const { m, n, k, aBatch, bBatch, shape, refuse } = checkedSizes(a, b, options);
  if (options.activation) {
    const { activation, residual, ...linear } = options;
    return a.gpu.scope(() => {
      const activated = activate(matmul(a, b, linear), activation);
      return residual ? add(activated, residual) : activated;
    });
  }
  let batch = elements(shape.slice(0, -2)), rows = m;
  // With a shared B, the batch becomes rows of one product, which fills tiles better.
  if (bBatch.length === 0 && !transposeA && options.biasAxis !== "row") [batch, rows] = [1, batch * m];
  const tuned = batch === 1 && !options.tile
    ? policyOf(a.gpu).products.tunedProduct(rows, n, k, { allowF16Operands })
    : undefined;
  const tile = options.tile ?? tuned?.tile;
  const splits = options.splits ?? tuned?.splits ?? (batch === 1 ? splitsFor(a.gpu, rows, n, k, options) : 1);
  if (!Number.isInteger(splits) || splits < 1) refuse(`splits must be a whole number of at least 1: ${splits}`);
  if (splits > 1 && (batch > 1 || k % splits !== 0)) {
    refuse(`splits must divide k, and requires a single product: k = ${k}, splits = ${splits}, batch = ${batch}`);
  }
  const aRow = transposeA ? m : k, bRow = transposeB ? k : n; // lengths of stored rows
  return Tensor.filled(a.gpu, shape, dtype, (y) => {
    if (splits > 1) {
      // The parts are a batch: part i multiplies k / splits columns of A by as many rows of B.
      using parts = Tensor.empty(a.gpu, [splits, rows, n]);
      const depth = k / splits;
      gemm(
        a.gpu,
        { tensor: a, rowStride: aRow, outerStride: transposeA ? depth * aRow : depth },
        { tensor: b, rowStride: bRow, outerStride: transposeB ? depth : depth * bRow },
        { tensor: parts, rowStride: n, outerStride: rows * n },
        {
          ...{ m: rows, n, k: depth, outer: splits, transposeA, transposeB, scale: options.scale },
          allowF16Operands,
          tile,
        },
      );
      sumParts(parts, y, options);
      return;
    }
    gemm(
      a.gpu,
      { tensor: a, rowStride: aRow, outerStride: aBatch.length > 0 ? m * k : 0 },
      { tensor: b, rowStride: bRow, outerStride: bBatch.length > 0 ? k * n : 0 },
      { tensor: y, rowStride: n, outerStride: m * n },
      { ...options, m: rows, n, k, outer: batch, tile },
    );
  });
}

/** The sizes of a product. @throws {ShapeError} when the shapes do not match */
function checkedSizes(
  a: Tensor,
  b: Tensor,
  { transposeA = false, transposeB = false, bias, biasAxis, residual }: MatmulOptions,
) {
  const refuse = (why: string): never => {
    throw new ShapeError(`Cannot multiply a [${a.shape.join(", ")}] by b [${b.shape.join(", ")}] as ${why}`, [
      a.shape,
      b.shape,
    ]);
  };
  if (a.shape.length < 2 || b.shape.length < 2) refuse("each must have at least two axes");
  const [aRows, aColumns] = a.shape.slice(-2), [bRows, bColumns] = b.shape.slice(-2);
  const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const [bk, n] = transposeB ? [bColumns, bRows] : [bRows, bColumns];
  if (k !== bk) {
    refuse(`a's ${transposeA ? "first" : "last"} axis must equal b's ${transposeB ? "last" : "first"}: ${k} ≠ ${bk}`);
  }
  const aBatch = a.shape.slice(0, -2), bBatch = b.shape.slice(0, -2);
  const batchShape = aBatch.length >= bBatch.length ? aBatch : bBatch;
  for (const batch of [aBatch, bBatch]) {
    if (batch.length > 0 && batch.join() !== batchShape.join()) {
      refuse(`the batch axes must agree: [${aBatch}] ≠ [${bBatch}]`);
    }
  }
  const axis = biasAxis === "row" ? m : n;
  if (bias && bias.size !== axis) refuse(`the bias must hold ${axis} elements: ${bias.size}`);
  const shape = [...batchShape, m, n];
  if (residual && residual.shape.join() !== shape.join()) {
    refuse(`the residual must have the result's shape: [${residual.shape.join(", ")}] ≠ [${shape.join(", ")}]`);
  }
  return { m, n, k, aBatch, bBatch, shape, refuse };
}

/**
 * Number of parts into which K is split, from the number of tiles that cover the result: see
 * {@linkcode ProductPolicy.splitsFor}.
 *
 * @param options.tile the tile. Default: the policy's
 */
export function splitsFor(
  gpu: Gpu,
  m: number,
  n: number,
  k: number,
  options: { readonly allowF16Operands?: boolean; readonly tile?: TileShape } = {},
): number {
  const { products } = policyOf(gpu);
  const constants = tileConstants(gpu, options.tile ?? products.tileFor(m, n, options));
  const [columns, rows] = tileGrid(constants, { m, n });
  return products.splitsFor(columns * rows, k);
}
