import { ShapeError } from "../../engine/errors.ts";
import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { activationValues, activationWgsl } from "../wgsl/activation.ts";
import {
  elementwise,
  elementwiseConstantTypes,
  elementwiseGrid,
  elementwiseParams,
  elementwiseWgsl,
} from "../wgsl/elementwise.ts";
import { gemm } from "./gemm.ts";
import { matmul } from "./matmul.ts";
import { canGate, type TileShape } from "./tile.ts";
import { policyOf } from "../policy.ts";
import { launchOverRanges } from "../wgsl/launch.ts";

/**
 * Accesses are vec4 where N is a multiple of 4, else single elements; `activate` then computes
 * three unused components.
 */
const gegluKernel = declareKernel({
  name: "geglu",
  bindings: { x: input("X_WIDTH"), y: output("X_WIDTH") },
  params: { ...elementwiseParams, x_start: "u32", y_start: "u32" },
  constants: { X_WIDTH: "u32", ACTIVATION: activationValues, ...elementwiseConstantTypes },
  wgsl: (constants) =>
    activationWgsl(constants) + /* wgsl */ `
fn element(row: u32, column: u32) {
  let at = params.x_start + row * 2u * params.columns + column;
  let gate = activate(vec4f(x_at(at + params.columns)));
  y_put(params.y_start + row * params.columns + column, x_at(at) * gate${constants.X_WIDTH === 1 ? ".x" : ""});
}
${elementwiseWgsl}`,
  grid: (params, constants) => elementwiseGrid(params, constants),
  cost: ({ rows, columns }, { X_WIDTH }) => ({
    flops: rows * columns * X_WIDTH * 5,
    bytes: rows * columns * X_WIDTH * 12,
  }),
});

/**
 * GEGLU, the gated unit of the transformer's feed-forward (arXiv 2002.05202): y = x₁ · gelu(x₂) for
 * x = [x₁, x₂] along the last axis. GELU is exact (erf).
 *
 * @param x [..., 2N], f32 or f16
 * @returns [..., N] of x's dtype
 * @throws {ShapeError} when the last axis is odd
 * @throws {DTypeError} when x is f16 and N is not a multiple of 4
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([2, 3]), [1, 2]);
 * using y = geglu(x); // [1, 1] of 2 · gelu(3)
 * ```
 */
export function geglu(x: Tensor): Tensor {
  const { gpu } = x;
  const width = x.shape.at(-1);
  if (width === undefined || width % 2 !== 0) {
    throw new ShapeError(
      `Cannot gate [${x.shape.join(", ")}] as its last axis must hold values and gates, an even number: ${
        width ?? "there is none"
      }`,
      [x.shape],
    );
  }
  const outer = x.shape.slice(0, -1), half = width / 2;
  return Tensor.filled(gpu, [...outer, half], x.dtype, (y) => {
    const vectorWidth = half % 4 === 0 ? 4 : 1;
    launchOverRanges(
      gpu,
      elements(outer),
      { x: { tensor: x, unit: width }, y: { tensor: y, unit: half } },
      ({ count, windows, starts }) => {
        const { params, constants } = elementwise(gpu, count, half / vectorWidth);
        gegluKernel.run(
          gpu,
          windows,
          { ...params, x_start: starts.x, y_start: starts.y },
          { X_WIDTH: vectorWidth, ACTIVATION: "gelu", ...constants },
        );
      },
      { vectorWidth },
    );
  });
}

/** Options of {@linkcode gatedProduct}. */
export interface GatedProductOptions {
  /** [2N] */
  readonly bias?: Tensor;
  /**
   * Whether elements of x and the weight may be rounded to f16; see GemmOptions. On subgroup
   * matrices the gate is a separate pass. Default: false.
   */
  readonly allowF16Operands?: boolean;
  /**
   * The tile, for the tests and the tuner: a workgroup or half tile of two columns. Default: by
   * device and size.
   */
  readonly tile?: TileShape;
}

/**
 * The first layer of a gated feed-forward (arXiv 2002.05202): y = geglu(x Wᵀ + b) =
 * (x W₁ᵀ + b₁) · gelu(x W₂ᵀ + b₂).
 *
 * On GPUs a thread computes values and their gates, so the intermediate [..., 2N] is never stored.
 * On software devices geglu() is a separate pass: exact GELU in a product's unrolled epilogue takes
 * longer to compile than the pass takes to run.
 *
 * @param x [..., K], f32 or f16
 * @param weight [2N, K], as torch stores it; f32 or f16
 * @returns [..., N] of x's dtype
 * @throws {ShapeError} when weight or bias does not match x, or the weight has an odd number of
 *   rows
 * @throws {DTypeError} when x is f16 and N is not a multiple of 4
 *
 * ```ts
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array(4).fill(1), [1, 4]);
 * using weight = Tensor.from(gpu, new Float32Array(8 * 4).fill(1), [8, 4]);
 * using y = gatedProduct(x, weight); // [1, 4] of 4 · gelu(4)
 * ```
 */
export function gatedProduct(
  x: Tensor,
  weight: Tensor,
  { bias, allowF16Operands, tile }: GatedProductOptions = {},
): Tensor {
  const { gpu } = x;
  const [columns, k] = weight.dims(2);
  const n = columns / 2, outer = x.shape.slice(0, -1), m = elements(outer);
  const { products, isSoftware } = policyOf(gpu);
  const tuned = tile ? undefined : products.tunedProduct(m, n, k, { allowF16Operands, variant: "gated" });
  const chosen = tile ?? tuned?.tile,
    shape = { ...(chosen ?? products.tileFor(m, n, { allowF16Operands })), columns: 2 };
  const isSlow = !chosen && isSoftware && shape.strategy === "half"; // to compile
  if (!canGate(shape) || isSlow || n % 4 !== 0) {
    return gpu.scope(() => geglu(matmul(x, weight, { transposeB: true, bias, allowF16Operands, dtype: x.dtype })));
  }
  if (x.shape.at(-1) !== k || bias && bias.size !== columns) {
    throw new ShapeError(
      `Cannot multiply x [${x.shape.join(", ")}] by a weight [${weight.shape.join(", ")}] with a bias of ${
        bias?.size ?? columns
      } as x must have ${k} columns and the bias ${columns} elements`,
      [x.shape, weight.shape],
    );
  }
  return Tensor.filled(gpu, [...outer, n], x.dtype, (y) => {
    gemm(gpu, { tensor: x, rowStride: k }, { tensor: weight, rowStride: k }, { tensor: y, rowStride: n }, {
      m,
      n,
      k,
      transposeB: true,
      bias,
      gated: true,
      tile: shape,
    });
  });
}
