/**
 * The cosine similarities ⟨aᵢ, bⱼ⟩ / (‖aᵢ‖ ‖bⱼ‖) between all rows of two matrices, in f64.
 *
 * @param a [n, width]
 * @param b [m, width]
 * @returns [n, m], row-major; 0 for zero rows, as with torch's `normalize`
 */
export function cosines(a: Float32Array, b: Float32Array, { width }: { width: number }): Float64Array {
  const [rowsA, rowsB] = [a, b].map((matrix) => normalizedRows(matrix, width));
  return Float64Array.from(rowsA.flatMap((rowA) => rowsB.map((rowB) => dot(rowA, rowB))));
}

function normalizedRows(matrix: Float32Array, width: number): Float64Array[] {
  return Array.from({ length: matrix.length / width }, (_, index) => {
    const row = Float64Array.from(matrix.subarray(index * width, (index + 1) * width));
    const norm = Math.max(Math.sqrt(dot(row, row)), 1e-12);
    return row.map((value) => value / norm);
  });
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}
