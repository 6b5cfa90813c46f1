/**
 * Eigendecomposition of symmetric matrices on the host in float64, for truncating exported edits.
 *
 * @module
 */

/**
 * Eigenvalues in descending order, and unit eigenvectors: row k of `vectors` belongs to value k.
 */
export interface Eigen {
  readonly values: Float64Array;
  /** [size, size], row-major. */
  readonly vectors: Float64Array;
}

/**
 * The eigendecomposition of a symmetric matrix [size, size], of which only the lower triangle is
 * read. Householder reduction to tridiagonal form, then the implicitly shifted QL algorithm (Golub
 * and Van Loan, Matrix Computations, 8.3). About 9 · size³ operations.
 */
export function symmetricEigen(matrix: ArrayLike<number>, size: number): Eigen {
  const rows = Array.from(
    { length: size },
    (_, i) => Float64Array.from({ length: size }, (_, j) => j <= i ? matrix[i * size + j] : matrix[j * size + i]),
  );
  const { diagonal, offDiagonal, basis } = tridiagonalize(rows);
  diagonalize(diagonal, offDiagonal, basis);
  const order = Array.from(diagonal.keys()).sort((a, b) => diagonal[b] - diagonal[a]);
  const vectors = new Float64Array(size * size);
  order.forEach((from, to) => vectors.set(basis[from], to * size));
  return { values: Float64Array.from(order, (i) => diagonal[i]), vectors };
}

/** A = BᵀTB: the diagonals of T, and the rows of the orthogonal B. Overwrites `a`. */
function tridiagonalize(a: Float64Array[]) {
  const size = a.length;
  // Row k of `basis` is the k-th basis vector.
  const basis = Array.from({ length: size }, (_, i) => {
    const row = new Float64Array(size);
    row[i] = 1;
    return row;
  });
  for (let k = 0; k + 2 < size; k++) {
    // The reflection I − 2vvᵀ that clears column k below its first subdiagonal element.
    const v = new Float64Array(size);
    let norm = 0;
    for (let i = k + 1; i < size; i++) {
      v[i] = a[i][k];
      norm += v[i] * v[i];
    }
    norm = Math.sqrt(norm);
    if (norm === 0) continue;
    v[k + 1] += v[k + 1] < 0 ? -norm : norm;
    let length = 0;
    for (let i = k + 1; i < size; i++) length += v[i] * v[i];
    length = Math.sqrt(length);
    for (let i = k + 1; i < size; i++) v[i] /= length;
    // A ← (I − 2vvᵀ)A(I − 2vvᵀ) = A − v wᵀ − w vᵀ with w = 2(Av − (vᵀAv) v)
    const w = new Float64Array(size);
    let vAv = 0;
    for (let i = k; i < size; i++) {
      let sum = 0;
      for (let j = k + 1; j < size; j++) sum += a[i][j] * v[j];
      w[i] = sum;
      vAv += v[i] * sum;
    }
    for (let i = k; i < size; i++) w[i] = 2 * (w[i] - vAv * v[i]);
    for (let i = k; i < size; i++) {
      for (let j = k; j < size; j++) a[i][j] -= v[i] * w[j] + w[i] * v[j];
    }
    // Apply the same reflection to the basis.
    const mixed = new Float64Array(size);
    for (let i = k + 1; i < size; i++) {
      for (let j = 0; j < size; j++) mixed[j] += v[i] * basis[i][j];
    }
    for (let i = k + 1; i < size; i++) {
      for (let j = 0; j < size; j++) basis[i][j] -= 2 * v[i] * mixed[j];
    }
  }
  return {
    diagonal: Float64Array.from({ length: size }, (_, i) => a[i][i]),
    offDiagonal: Float64Array.from({ length: size }, (_, i) => i + 1 < size ? a[i + 1][i] : 0),
    basis,
  };
}

/**
 * Reduces `offDiagonal` to zero by Givens rotations of adjacent basis vectors. `diagonal` then
 * holds the eigenvalues.
 */
function diagonalize(diagonal: Float64Array, offDiagonal: Float64Array, basis: Float64Array[]): void {
  const size = diagonal.length;
  for (let first = 0; first < size; first++) {
    for (let iteration = 0; iteration < 60; iteration++) {
      let last = first; // the unreduced block first … last
      while (last + 1 < size) {
        const scale = Math.abs(diagonal[last]) + Math.abs(diagonal[last + 1]);
        if (Math.abs(offDiagonal[last]) <= Number.EPSILON * scale) break;
        last++;
      }
      if (last === first) break;
      // Wilkinson's shift, from the upper corner of the block.
      const half = (diagonal[first + 1] - diagonal[first]) / (2 * offDiagonal[first]);
      const root = Math.hypot(half, 1);
      const shift = diagonal[first] - offDiagonal[first] / (half + (half < 0 ? -root : root));
      let bulge = diagonal[last] - shift, sine = 1, cosine = 1, correction = 0;
      for (let i = last - 1; i >= first; i--) {
        const across = sine * offDiagonal[i], along = cosine * offDiagonal[i];
        const length = Math.hypot(across, bulge);
        offDiagonal[i + 1] = length;
        if (length === 0) { // the block decouples here
          diagonal[i + 1] -= correction;
          offDiagonal[last] = 0;
          correction = NaN;
          break;
        }
        sine = across / length;
        cosine = bulge / length;
        const rest = diagonal[i + 1] - correction;
        const turn = (diagonal[i] - rest) * sine + 2 * cosine * along;
        correction = sine * turn;
        diagonal[i + 1] = rest + correction;
        bulge = cosine * turn - along;
        const upper = basis[i + 1], lower = basis[i];
        for (let j = 0; j < size; j++) {
          const value = upper[j];
          upper[j] = sine * lower[j] + cosine * value;
          lower[j] = cosine * lower[j] - sine * value;
        }
      }
      if (Number.isNaN(correction)) continue;
      diagonal[first] -= correction;
      offDiagonal[first] = bulge;
      offDiagonal[last] = 0;
    }
  }
}
