/**
 * UCE and null-space edits by their papers' formulas: dense d × d matrices in float64, inverted by
 * Gauss-Jordan elimination, with the eigenvectors of Jacobi rotations.
 */

type Matrix = number[][];

/** Last tokens of the prompts, as rows. */
export interface DenseEdit {
  source: Matrix;
  destination: Matrix;
  preserve: Matrix;
  lamb: number;
}

const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0].map((_, j) => row.reduce((sum, value, k) => sum + value * b[k][j], 0)));
const transposed = (a: Matrix): Matrix => a[0].map((_, j) => a.map((row) => row[j]));
const sum = (a: Matrix, b: Matrix, factor = 1): Matrix =>
  a.map((row, i) => row.map((value, j) => value + factor * b[i][j]));
const scaled = (a: Matrix, factor: number): Matrix => a.map((row) => row.map((value) => value * factor));
const diagonal = (side: number, value: number): Matrix =>
  Array.from({ length: side }, (_, i) => Array.from({ length: side }, (_, j) => i === j ? value : 0));
/** Σ aᵢ bᵢᵀ of rows. */
const outer = (a: Matrix, b: Matrix): Matrix => product(transposed(a), b);
const flat = (a: Matrix) => Float64Array.from(a.flat());

function inverse(a: Matrix): Matrix {
  const side = a.length, rows = a.map((row, i) => [...row, ...diagonal(side, 1)[i]]);
  for (let k = 0; k < side; k++) {
    const best = rows.findIndex((row, i) =>
      i >= k && Math.abs(row[k]) === Math.max(...rows.slice(k).map((other) => Math.abs(other[k])))
    );
    [rows[k], rows[best]] = [rows[best], rows[k]];
    const pivot = rows[k][k];
    rows[k] = rows[k].map((value) => value / pivot);
    for (let i = 0; i < side; i++) {
      const factor = rows[i][k];
      if (i !== k && factor !== 0) rows[i] = rows[i].map((value, j) => value - factor * rows[k][j]);
    }
  }
  return rows.map((row) => row.slice(side));
}

/** Eigenvalues, and eigenvectors as rows, by cyclic Jacobi rotations. */
function jacobi(matrix: Matrix): { values: number[]; vectors: Matrix } {
  const a = matrix.map((row) => [...row]), side = a.length, vectors = diagonal(side, 1);
  for (let sweep = 0; sweep < 30; sweep++) {
    for (let p = 0; p < side; p++) {
      for (let q = p + 1; q < side; q++) {
        if (Math.abs(a[p][q]) < 1e-300) continue;
        const angle = Math.atan2(2 * a[p][q], a[q][q] - a[p][p]) / 2;
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        for (let k = 0; k < side; k++) [a[k][p], a[k][q]] = [c * a[k][p] - s * a[k][q], s * a[k][p] + c * a[k][q]];
        for (let k = 0; k < side; k++) [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
        for (let k = 0; k < side; k++) {
          [vectors[p][k], vectors[q][k]] = [
            c * vectors[p][k] - s * vectors[q][k],
            s * vectors[p][k] + c * vectors[q][k],
          ];
        }
      }
    }
  }
  return { values: a.map((row, i) => row[i]), vectors };
}

/** E − I of UCE (arXiv 2308.14761, eq. 7). */
export function denseUce(
  { source, destination, preserve, lamb }: DenseEdit,
  { eraseScale, preserveScale }: { eraseScale: number; preserveScale: number },
): Float64Array {
  const side = source[0].length;
  const kept = preserve.length === 0 ? diagonal(side, 0) : scaled(outer(preserve, preserve), preserveScale);
  const base = sum(diagonal(side, lamb), kept);
  const left = sum(base, scaled(outer(destination, source), eraseScale));
  const right = sum(base, scaled(outer(source, source), eraseScale));
  return flat(sum(product(left, inverse(right)), diagonal(side, 1), -1));
}

/**
 * SPEED's prior shift ‖Δ r‖ of concepts under Δ = W(G − C)ᵀC(I + CᵀC)⁻¹ [features, d], by the d × d
 * form of the erasure.
 */
export function densePriorShift(
  { source, destination }: Pick<DenseEdit, "source" | "destination">,
  { weight, concepts }: { weight: Matrix; concepts: Matrix },
): number[] {
  const side = source[0].length;
  const erased = product(
    outer(sum(destination, source, -1), source),
    inverse(sum(outer(source, source), diagonal(side, 1))),
  );
  return product(concepts, transposed(product(weight, erased))).map((change) => Math.hypot(...change));
}

/** E − I of the null-space edit (SPEED, arXiv 2503.07392). */
export function denseNullSpace(
  { source, destination, preserve, lamb }: DenseEdit,
  { threshold, scale, invariant }: { threshold: number; scale: number; invariant: Matrix },
): Float64Array {
  const side = source[0].length;
  const { values, vectors } = jacobi(scaled(outer(preserve, preserve), 1 / preserve.length));
  const free = vectors.filter((_, i) => values[i] < threshold);
  const p = outer(free, free);
  const [target, anchor] = [outer(source, source), outer(destination, source)].map((a) => scaled(a, 1 / source.length));
  const m = inverse(sum(product(target, p), diagonal(side, scale)));
  const k = transposed(invariant); // columns
  const inner = sum(product(product(invariant, p), product(m, k)), diagonal(invariant.length, lamb));
  const held = product(product(product(m, k), inverse(inner)), product(invariant, p));
  return flat(product(product(product(sum(anchor, target, -1), p), sum(diagonal(side, 1), held, -1)), m));
}
