import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { gatedProduct, geglu } from "../../../kernels/gemm/gated_product.ts";
import { matmul } from "../../../kernels/gemm/matmul.ts";
import type { TileShape } from "../../../kernels/gemm/tile.ts";
import { stationaryDepths } from "../../../kernels/gemm/tile_stationary.ts";
import { policyOf } from "../../../kernels/policy.ts";
import type { TileKind } from "../../../kernels/tuning.ts";
import { gegluOf } from "../../oracles/functions.ts";
import { product, transposed } from "../../oracles/matrices.ts";
import { expTolerance, f16Rounding, f32Tolerance, randomArray, randomF16 } from "../../oracles/numbers.ts";
import type { Check } from "../check.ts";

/** Variants of a product. */
interface ProductVariant {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** Whether B is stored in f16, as the weights of most checkpoints are. */
  readonly f16?: boolean;
  readonly epilogue?: boolean;
  readonly splits?: number;
  /** The kind whose tile is used in place of that of the sizes. */
  readonly kind?: TileKind;
  /** Whether a tile that keeps B keeps the deepest blocks of it, as for large products. */
  readonly isDeep?: boolean;
}

function productCheck([m, k, n]: readonly [number, number, number], variant: ProductVariant = {}): Check {
  const { transposeA = false, transposeB = false, f16 = false, epilogue = false, splits, kind, isDeep = false } =
    variant;
  const notes = [
    ...(transposeA ? ["Aᵀ"] : []),
    ...(transposeB ? ["Bᵀ"] : []),
    ...(f16 ? ["f16 weight"] : []),
    ...(epilogue ? ["bias + residual"] : []),
    ...(splits === undefined ? [] : [`K in ${splits} parts`]),
    ...(kind === undefined ? [] : [`tile of "${kind}"`]),
    ...(isDeep ? ["deepest blocks"] : []),
  ];
  return {
    operation: "matmul",
    shape: [`${m}×${k}×${n}`, ...notes].join(", "),
    tolerance: f32Tolerance(k),
    run: (gpu) => {
      const a = randomArray(m * k, 1), b = (f16 ? randomF16 : randomArray)(k * n, 2);
      const bias = randomArray(n, 3), residual = randomArray(m * n, 4);
      const left = Float32Array.from(transposeA ? transposed(a, m, k) : a);
      const right = Float32Array.from(transposeB ? transposed(b, k, n) : b);
      const tensor = matmul(
        Tensor.from(gpu, left, transposeA ? [k, m] : [m, k]),
        Tensor.from(gpu, right, transposeB ? [n, k] : [k, n], f16 ? "f16" : "f32"),
        {
          transposeA,
          transposeB,
          splits,
          tile: kind && tileOf(gpu, kind, isDeep),
          ...(epilogue ? { bias: Tensor.from(gpu, bias, [n]), residual: Tensor.from(gpu, residual, [m, n]) } : {}),
        },
      );
      const expected = product(a, b, m, k, n);
      return { tensor, expected: epilogue ? expected.map((sum, i) => sum + bias[i % n] + residual[i]) : expected };
    },
  };
}

function tileOf(gpu: Gpu, kind: TileKind, isDeep: boolean): TileShape {
  const tile = policyOf(gpu).products.tiles()[kind];
  return isDeep && tile.strategy === "stationary" ? { ...tile, depth: stationaryDepths(tile.lanes).most } : tile;
}

function gatedCheck([m, k, n]: readonly [number, number, number]): Check {
  return {
    operation: "gatedProduct",
    shape: `${m}×${k}×${n}`,
    tolerance: f32Tolerance(k) + gegluError,
    run: (gpu) => {
      const x = randomArray(m * k, 1), weight = randomArray(2 * n * k, 2), bias = randomArray(2 * n, 3);
      const tensor = gatedProduct(Tensor.from(gpu, x, [m, k]), Tensor.from(gpu, weight, [2 * n, k]), {
        bias: Tensor.from(gpu, bias, [2 * n]),
      });
      const sums = product(x, transposed(weight, 2 * n, k), m, k, 2 * n).map((sum, i) => sum + bias[i % (2 * n)]);
      return { tensor, expected: gegluOf(sums, n) };
    },
  };
}

/** GELU takes exp of −x² / 2, with |x| at most 8 here. */
const gegluError = expTolerance(32);

/** Matrix products, their epilogues and gates. */
export const productChecks: readonly Check[] = [
  productCheck([1, 1, 1]),
  productCheck([3, 5, 7]),
  productCheck([17, 33, 65]),
  productCheck([64, 64, 64], { transposeB: true, f16: true, epilogue: true }),
  productCheck([65, 20, 68], { transposeA: true }),
  productCheck([77, 48, 131], { transposeB: true }),
  productCheck([129, 36, 132], { transposeB: true, epilogue: true }),
  productCheck([65, 200, 72], { transposeB: true, epilogue: true }),
  productCheck([43, 88, 72], { transposeB: true, epilogue: true }),
  productCheck([131, 48, 140], { transposeB: true, f16: true, kind: "many" }),
  productCheck([131, 36, 132], { kind: "many", epilogue: true }),
  productCheck([43, 200, 72], { kind: "many", isDeep: true, transposeB: true, f16: true, epilogue: true }),
  productCheck([3, 512, 72], { transposeB: true, splits: 4, epilogue: true }),
  gatedCheck([5, 8, 12]),
  gatedCheck([70, 33, 68]),
  ...([[3, 62, "f32"], [9, 64, "f16"]] as const).map(([rows, half, dtype]): Check => ({
    operation: "geglu",
    shape: `${rows}×${2 * half} ${dtype}`,
    tolerance: gegluError + (dtype === "f16" ? f16Rounding : 0),
    run: (gpu) => {
      const x = randomF16(rows * 2 * half).map((value) => 4 * value);
      return { tensor: geglu(Tensor.from(gpu, x, [rows, 2 * half], dtype)), expected: gegluOf(x, half) };
    },
  })),
];
