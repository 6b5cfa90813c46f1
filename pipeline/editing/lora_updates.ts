/**
 * Low-rank updates of an edit's projection matrices, exact or truncated to a lower rank.
 *
 * @module
 */

import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { gram } from "../../kernels/linalg/gram.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import type { EditOperator } from "./operator.ts";
import { symmetricEigen } from "./solve/symmetric_eigen.ts";

/** A projection matrix, with the key of its module. */
export interface Matrix {
  readonly module: string;
  readonly weight: Tensor;
}

/** The matrices that one operator changes. */
export interface Group {
  readonly operator: EditOperator;
  readonly matrices: readonly Matrix[];
}

/** ΔW = up · down, on the host. */
export interface Update {
  readonly module: string;
  /** [features, rank] */
  readonly up: Float32Array<ArrayBuffer>;
  /** [rank, width] */
  readonly down: Float32Array<ArrayBuffer>;
  readonly features: number;
  readonly rank: number;
  readonly width: number;
}

/**
 * The exact updates: up = WPᵀ and down = Q. If W has fewer rows than Q, up = I and down = ΔW have a
 * lower rank.
 */
export async function exactUpdates({ operator, matrices }: Group): Promise<Update[]> {
  const { left, right } = operator.factors;
  const { width } = operator;
  const shared = await right?.data();
  const updates: Update[] = [];
  for (const { module, weight } of matrices) {
    const features = weight.shape[0];
    using up = matmul(weight, left, { transposeB: true }); // [features, rank]
    if (right && operator.rank <= features) {
      updates.push({ module, up: await up.data(), down: shared!, features, rank: operator.rank, width });
      continue;
    }
    using change = right ? matmul(up, right) : up.reshape(up.shape); // [features, width]
    const values = await change.data();
    updates.push(
      features <= width
        ? { module, up: identity(features), down: values, features, rank: features, width }
        : { module, up: values, down: identity(width), features, rank: width, width },
    );
  }
  return updates;
}

/**
 * The best updates of a lower rank: down = V and up = ΔW·Vᵀ, where the rows of V are the leading
 * right singular vectors of all ΔW, stacked. All matrices share V.
 *
 * With G = QQᵀ and K = Σ (WPᵀ)ᵀ(WPᵀ), V follows from two symmetric eigenproblems whose order is the
 * operator's rank: G = Zᵀ diag(g) Z, then the eigenvectors Y of M = g^½ Z K Zᵀ g^½, and
 * V = Y g^-½ Z Q.
 *
 * @returns the updates, and the squared norms of what truncation loses and of all ΔW
 */
export async function truncatedUpdates(
  { operator, matrices }: Group,
  rank: number,
): Promise<{ updates: Update[]; lost: number; total: number }> {
  const { gpu, width } = operator;
  using owned = new DisposableStack();
  const [right, ...ups] = gpu.scope(() => {
    const { left, right } = operator.thin();
    return [right, ...matrices.map(({ weight }) => matmul(weight, left, { transposeB: true }))];
  }).map((tensor) => owned.use(tensor));
  const size = operator.rank;
  const grams = gpu.scope(() => [gram(right), ...ups.map((up) => gram(up, { of: "columns" }))])
    .map((tensor) => owned.use(tensor));
  const [g, ...squares] = await Promise.all(grams.map((tensor) => tensor.float64()));
  const k = squares[0];
  for (const other of squares.slice(1)) for (let i = 0; i < k.length; i++) k[i] += other[i];

  const basis = symmetricEigen(g, size); // g, and the rows of Z
  // Smaller eigenvalues are rounding errors of f32.
  const kept = basis.values.filter((value) => value > 1e-7 * basis.values[0]).length;
  // M = g^½ Z K Zᵀ g^½
  const m = new Float64Array(kept * kept);
  const kz = new Float64Array(size);
  for (let b = 0; b < kept; b++) {
    for (let i = 0; i < size; i++) {
      let sum = 0;
      for (let j = 0; j < size; j++) {
        sum += (j <= i ? k[i * size + j] : k[j * size + i]) * basis.vectors[b * size + j];
      }
      kz[i] = sum;
    }
    for (let a = b; a < kept; a++) {
      let sum = 0;
      for (let i = 0; i < size; i++) sum += basis.vectors[a * size + i] * kz[i];
      m[a * kept + b] = sum * Math.sqrt(basis.values[a] * basis.values[b]);
    }
  }
  const directions = symmetricEigen(m, kept);
  const count = Math.min(rank, kept);
  // V = (Y g^-½ Z)·Q: first the coefficients of Q's rows.
  const coefficients = new Float32Array(count * size);
  for (let v = 0; v < count; v++) {
    for (let b = 0; b < kept; b++) {
      const factor = directions.vectors[v * kept + b] / Math.sqrt(basis.values[b]);
      for (let i = 0; i < size; i++) coefficients[v * size + i] += factor * basis.vectors[b * size + i];
    }
  }
  const [down, overlap] = gpu.scope(() => {
    const v = matmul(Tensor.from(gpu, coefficients, [count, size]), right); // [count, width]
    return [v, matmul(right, v, { transposeB: true })]; // QVᵀ [size, count]
  }).map((tensor) => owned.use(tensor));
  const shared = await down.data();
  const updates: Update[] = [];
  let lost = 0, total = 0;
  for (const [index, { module, weight }] of matrices.entries()) {
    using up = matmul(ups[index], overlap); // ΔW·Vᵀ
    updates.push({ module, up: await up.data(), down: shared, features: weight.shape[0], rank: count, width });
    // Measured, because in f32 the dropped eigenvalues are below the rounding error of the largest.
    const measured = await squaredDistance(gpu, () => [matmul(ups[index], right), matmul(up, down)]);
    lost += measured.difference;
    total += measured.norm;
  }
  return { updates, lost, total };
}

function identity(side: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(side * side);
  for (let i = 0; i < side; i++) values[i * (side + 1)] = 1;
  return values;
}

/** Pads an update with zeros to a higher rank; the product stays the same. */
export function padded(update: Update, rank: number): Update {
  if (update.rank === rank) return update;
  const { features, width } = update;
  const up = new Float32Array(features * rank), down = new Float32Array(rank * width);
  for (let i = 0; i < features; i++) {
    up.set(update.up.subarray(i * update.rank, (i + 1) * update.rank), i * rank);
  }
  down.set(update.down);
  return { ...update, up, down, rank };
}

/**
 * Scales each column of `up` and the same row of `down` to similar magnitudes, so that neither
 * underflows in f16. The factors are powers of two, so the product does not change.
 */
export function balanced(update: Update): Update {
  const { rank, width, features } = update;
  const up = update.up.slice(), down = update.down.slice();
  for (let k = 0; k < rank; k++) {
    let ups = 0, downs = 0;
    for (let i = 0; i < features; i++) ups = Math.max(ups, Math.abs(up[i * rank + k]));
    for (let j = 0; j < width; j++) downs = Math.max(downs, Math.abs(down[k * width + j]));
    if (ups === 0 || downs === 0) continue;
    const scale = 2 ** Math.round(Math.log2(downs / ups) / 2);
    for (let i = 0; i < features; i++) up[i * rank + k] *= scale;
    for (let j = 0; j < width; j++) down[k * width + j] /= scale;
  }
  return { ...update, up, down };
}

/** ‖X − Y‖² and ‖X‖² of two tensors X and Y. */
async function squaredDistance(
  gpu: Gpu,
  make: () => readonly [Tensor, Tensor],
): Promise<{ difference: number; norm: number }> {
  const [differences, norms] = gpu.scope(() => {
    const [x, y] = make();
    const change = linearCombination([{ tensor: x, coefficient: 1 }, { tensor: y, coefficient: -1 }]);
    return [squaredNorms(change), squaredNorms(x)];
  });
  using a = differences;
  using b = norms;
  const [difference, norm] = (await Promise.all([a.data(), b.data()]))
    .map((values) => values.reduce((sum, value) => sum + value, 0));
  return { difference, norm };
}

/** ‖up·down − f16(up)·f16(down)‖ / ‖up·down‖ over all updates. */
export async function f16Error(gpu: Gpu, updates: readonly Update[]): Promise<number> {
  const rounded = (values: Float32Array<ArrayBuffer>) => new Float32Array(new Float16Array(values));
  let difference = 0, norm = 0;
  for (const { up, down, features, rank, width } of updates) {
    const product = (a: Float32Array<ArrayBuffer>, b: Float32Array<ArrayBuffer>) =>
      matmul(Tensor.from(gpu, a, [features, rank]), Tensor.from(gpu, b, [rank, width]));
    const measured = await squaredDistance(gpu, () => [product(up, down), product(rounded(up), rounded(down))]);
    difference += measured.difference;
    norm += measured.norm;
  }
  return Math.sqrt(difference / (norm || 1));
}
