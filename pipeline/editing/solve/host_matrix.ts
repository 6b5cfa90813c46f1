/** Products of row-major matrices on the host in float64. @module */

/** A row-major matrix [rows, columns]. */
export interface HostMatrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float64Array;
}

/** The matrix of given values, which may be shared. */
export function hostMatrix(values: Float64Array, columns: number): HostMatrix {
  return { rows: values.length / columns, columns, values };
}

/** A·Bᵀ [a.rows, b.rows]. */
export function timesTransposed(a: HostMatrix, b: HostMatrix): HostMatrix {
  const values = new Float64Array(a.rows * b.rows), { columns } = a;
  for (let i = 0; i < a.rows; i++) {
    for (let k = 0; k < b.rows; k++) {
      let sum = 0;
      for (let j = 0, p = i * columns, q = k * columns; j < columns; j++) sum += a.values[p + j] * b.values[q + j];
      values[i * b.rows + k] = sum;
    }
  }
  return { rows: a.rows, columns: b.rows, values };
}

/** A·B [a.rows, b.columns]. */
export function times(a: HostMatrix, b: HostMatrix): HostMatrix {
  const values = new Float64Array(a.rows * b.columns), { columns } = b;
  for (let i = 0; i < a.rows; i++) {
    for (let k = 0; k < a.columns; k++) {
      const factor = a.values[i * a.columns + k];
      if (factor === 0) continue;
      for (let j = 0, p = i * columns, q = k * columns; j < columns; j++) values[p + j] += factor * b.values[q + j];
    }
  }
  return { rows: a.rows, columns, values };
}

/** Aᵀ. */
export function transposed({ rows, columns, values }: HostMatrix): HostMatrix {
  const result = new Float64Array(values.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j];
  return { rows: columns, columns: rows, values: result };
}

/** x·A + y·B. */
export function combined(x: number, a: HostMatrix, y: number, b: HostMatrix): HostMatrix {
  return { ...a, values: a.values.map((value, i) => x * value + y * b.values[i]) };
}

/** Each row times a factor. */
export function scaledRows(a: HostMatrix, factor: (row: number) => number): HostMatrix {
  return { ...a, values: a.values.map((value, i) => value * factor(Math.floor(i / a.columns))) };
}

/** ‖A‖² (Frobenius). */
export function squaredNorm({ values }: HostMatrix): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
  return sum;
}

/** AᵀA [columns, columns], of which only the lower triangle is filled. */
export function gramOfColumns({ rows, columns, values }: HostMatrix): HostMatrix {
  const gram = new Float64Array(columns * columns);
  for (let row = 0; row < rows; row++) {
    const from = row * columns;
    for (let i = 0; i < columns; i++) {
      const factor = values[from + i];
      for (let j = 0, at = i * columns; j <= i; j++) gram[at + j] += factor * values[from + j];
    }
  }
  return { rows: columns, columns, values: gram };
}
