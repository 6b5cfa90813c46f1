import type { AttentionSizes } from "../../kernels/attention/sizes.ts";
import { f16Rounding, f32Tolerance, randomArray, randomF16 } from "./numbers.ts";

/** Operands of an attention, its result in float64, and the relative error that f32 may make. */
export interface AttentionProblem {
  readonly sizes: AttentionSizes;
  readonly q: Float32Array<ArrayBuffer>;
  readonly k: Float32Array<ArrayBuffer>;
  readonly v: Float32Array<ArrayBuffer>;
  readonly expected: Float64Array;
  readonly tolerance: number;
}

/** Sizes of an {@linkcode AttentionProblem}. */
export type AttentionCase =
  & Omit<AttentionSizes, "causal" | "scale">
  & Partial<Pick<AttentionSizes, "causal" | "scale">>;

/**
 * Random operands and softmax(scale · Q·Kᵀ)·V by its definition, in f64. `loud` multiplies
 * the queries; `rounded` rounds all operands to f16.
 */
export function attentionProblem(
  c: AttentionCase,
  { loud = 1, rounded = false }: { loud?: number; rounded?: boolean } = {},
): AttentionProblem {
  const { batch, heads, t, s, dim, causal = false, scale = 1 / Math.sqrt(dim) } = c;
  const width = heads * dim;
  const random = rounded ? randomF16 : randomArray;
  const q = random(batch * t * width, 1).map((x) => x * loud);
  const k = random(batch * s * width, 2), v = random(batch * s * width, 3);
  const expected = new Float64Array(q.length);
  let highest = 0;
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < t; i++) {
        const at = (b * t + i) * width + h * dim;
        const seen = causal ? Math.min(s, i + 1) : s;
        const scores = Float64Array.from({ length: seen }, (_, j) => {
          let sum = 0;
          for (let d = 0; d < dim; d++) sum += q[at + d] * k[(b * s + j) * width + h * dim + d];
          return sum * scale;
        });
        const top = scores.reduce((a, x) => Math.max(a, x), -Infinity);
        const weights = scores.map((x) => Math.exp(x - top));
        const total = weights.reduce((a, x) => a + x, 0);
        highest = scores.reduce((a, x) => Math.max(a, Math.abs(x)), highest);
        for (let j = 0; j < seen; j++) {
          for (let d = 0; d < dim; d++) {
            expected[at + d] += weights[j] / total * v[(b * s + j) * width + h * dim + d];
          }
        }
      }
    }
  }
  // The relative error of a weight is the absolute error of its score, plus the 3 + 2|x| ulp that
  // WGSL allows for exp, with |x| up to twice the highest score.
  const tolerance = f32Tolerance(s) + (1 + highest) * f32Tolerance(dim) + (3 + 4 * highest) * 2 ** -23;
  return { sizes: { batch, heads, t, s, dim, causal, scale }, q, k, v, expected, tolerance };
}

/**
 * What attention on subgroup matrices may err by, relative, for operands that f16 represents. The
 * sums may err twice as much as those of f32 (`matrixTolerance`). Each weight is rounded to f16; in
 * the norm, the error of a sum of values so weighted stays below that of one rounding.
 */
export function matrixAttentionTolerance({ tolerance }: Pick<AttentionProblem, "tolerance">): number {
  return 2 * tolerance + f16Rounding;
}
