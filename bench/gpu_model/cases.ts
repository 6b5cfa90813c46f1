/**
 * The kernels that the static GPU model compiles, at the sizes that matter, and the functions of
 * which modules for `--cases` are made, too. Nothing is computed: results of these calls mean
 * nothing.
 *
 * @module
 */
import type { DType } from "../../engine/dtype.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { attention } from "../../kernels/attention/attention.ts";
import { conv2d, type Conv2dOptions, packConvWeight } from "../../kernels/conv/conv2d.ts";
import { gatedProduct, geglu } from "../../kernels/gemm/gated_product.ts";
import { matmul, type MatmulOptions } from "../../kernels/gemm/matmul.ts";
import { cholesky } from "../../kernels/linalg/cholesky.ts";
import { exactProduct, exactProductPair } from "../../kernels/linalg/exact_product.ts";
import { gram } from "../../kernels/linalg/gram.ts";
import { addProduct } from "../../kernels/linalg/real_product.ts";
import { slices } from "../../kernels/linalg/slices.ts";
import { triangularSolve } from "../../kernels/linalg/triangular_solve.ts";
import { groupNorm } from "../../kernels/norm/group_norm.ts";
import { layerNorm } from "../../kernels/norm/layer_norm.ts";

/** Runs the kernels of a case. */
export type ModelCase = (gpu: Gpu) => void;

const empty = (gpu: Gpu, shape: readonly number[], dtype: DType = "f32") => Tensor.empty(gpu, shape, dtype);

/** A product of f32 activations and a weight, stored as torch stores it unless it is f32. */
export function product(
  m: number,
  n: number,
  k: number,
  weight: "f16" | "f32" = "f16",
  options?: MatmulOptions,
): ModelCase {
  const transposeB = weight === "f16";
  return (gpu) =>
    void matmul(empty(gpu, [m, k]), empty(gpu, transposeB ? [n, k] : [k, n], weight), { transposeB, ...options });
}

/** A convolution of two images of `side`² pixels. */
export function convolution(
  side: number,
  from: number,
  to: number,
  kernel: number,
  options?: Conv2dOptions,
): ModelCase {
  return (gpu) => {
    const weight = packConvWeight(empty(gpu, [to, from, kernel, kernel], "f16"));
    conv2d(empty(gpu, [2, from, side, side]), weight, { padding: kernel >> 1, ...options });
  };
}

/** Self-attention of `t` tokens. */
export function selfAttention(t: number, heads: number, dim: number, options?: object): ModelCase {
  return (gpu) => {
    const [q, k, v] = [1, 2, 3].map(() => empty(gpu, [2, t, heads * dim]));
    attention(q, k, v, { heads, ...options });
  };
}

/** The cases by name. */
export const cases: Readonly<Record<string, ModelCase>> = {
  "matmul 4096³ Bᵀ f16": product(4096, 4096, 4096),
  "matmul 4096³ f32": product(4096, 4096, 4096, "f32"),
  "matmul few 256×1280×1280": product(256, 1280, 1280),
  "matmul skinny 64×1280×1280": product(64, 1280, 1280),
  "matmul row 2×1280×1280": product(2, 1280, 1280),
  "conv 3×3 64² 320→320": convolution(64, 320, 320, 3),
  "conv 1×1 64² 320→320": convolution(64, 320, 320, 1),
  "attention 4096² 8 of 40": selfAttention(4096, 8, 40),
  "attention 4096² 5 of 64": selfAttention(4096, 5, 64),
  "attention 1024² 8 of 80": selfAttention(1024, 8, 80),
  "attention 1024² 8 of 128": selfAttention(1024, 8, 128),
  "attention 256² 8 of 160": selfAttention(256, 8, 160),
  "attention 4096² 1 of 512": selfAttention(4096, 1, 512),
  "geglu 4096×2560": (gpu) => void geglu(empty(gpu, [4096, 2560])),
  "gated product 4096×1280×320": (gpu) => void gatedProduct(empty(gpu, [4096, 320]), empty(gpu, [2560, 320], "f16")),
  "group norm 320 × 64²": (gpu) =>
    void groupNorm(empty(gpu, [2, 320, 64, 64]), {
      groups: 32,
      weight: empty(gpu, [320]),
      bias: empty(gpu, [320]),
      epsilon: 1e-5,
      activation: "silu",
    }),
  "layer norm 4096×320": (gpu) =>
    void layerNorm(empty(gpu, [4096, 320]), { weight: empty(gpu, [320]), bias: empty(gpu, [320]), epsilon: 1e-5 }),
  "edit: exact product": (gpu) => {
    const a = slices(empty(gpu, [308, 768]), { along: "rows", count: 3 });
    const b = slices(empty(gpu, [768, 308]), { along: "columns", count: 3 });
    exactProductPair(a, b);
    exactProduct(a, b);
  },
  "edit: real product": (gpu) =>
    addProduct({ matrix: empty(gpu, [768, 768]) }, [{ matrix: empty(gpu, [768, 768]) }, {
      matrix: empty(gpu, [768, 768]),
    }]),
  "edit: gram, cholesky, solve": (gpu) =>
    void triangularSolve(cholesky(gram(empty(gpu, [308, 768]))), empty(gpu, [308, 768])),
  "edit: gram f64": (gpu) => void gram(empty(gpu, [308, 768], "f64")),
};

const half = { allowF16Operands: true };

/** Cases in f16 arithmetic. */
export const f16Cases: Readonly<Record<string, ModelCase>> = {
  "f16: matmul 4096³ Bᵀ f16": product(4096, 4096, 4096, "f16", half),
  "f16: matmul few 256×1280×1280": product(256, 1280, 1280, "f16", half),
  "f16: conv 3×3 64² 320→320": convolution(64, 320, 320, 3, half),
  "f16: gated product 4096×1280×320": (gpu) =>
    void gatedProduct(empty(gpu, [4096, 320]), empty(gpu, [2560, 320], "f16"), half),
  "f16: attention 4096² 8 of 40": selfAttention(4096, 8, 40, half),
  "f16: attention 4096² 5 of 64": selfAttention(4096, 5, 64, half),
  "f16: attention 1024² 8 of 80": selfAttention(1024, 8, 80, half),
  "f16: attention 1024² 8 of 128": selfAttention(1024, 8, 128, half),
  "f16: attention 256² 8 of 160": selfAttention(256, 8, 160, half),
  "f16: attention 4096² 1 of 512": selfAttention(4096, 1, 512, half),
};

/**
 * Cases on subgroup matrices, for GPUs that have them. Their peak is that of the matrix units.
 * Matrices of 16 × 16 × 16 are those of RDNA 3.
 */
export const matrixCases: Readonly<Record<string, ModelCase>> = {
  "matrices: matmul 4096³ Bᵀ f16": product(4096, 4096, 4096, "f16", half),
  "matrices: matmul 4096³ f32": product(4096, 4096, 4096, "f32", half),
  "matrices: matmul few 256×1280×1280": product(256, 1280, 1280, "f16", half),
  "matrices: conv 3×3 64² 320→320": convolution(64, 320, 320, 3, half),
  "matrices: attention 4096² 8 of 40": selfAttention(4096, 8, 40, half),
  "matrices: attention 4096² 5 of 64": selfAttention(4096, 5, 64, half),
  "matrices: attention 1024² 8 of 80": selfAttention(1024, 8, 80, half),
  "matrices: attention 1024² 8 of 128": selfAttention(1024, 8, 128, half),
  "matrices: attention 256² 8 of 160": selfAttention(256, 8, 160, half),
};
