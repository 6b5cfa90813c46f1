/** Principal directions of embeddings. @module */

import { EditError } from "../../errors.ts";
import { gramOfColumns, type HostMatrix, scaledRows, times, timesTransposed } from "./host_matrix.ts";
import { symmetricEigen } from "./symmetric_eigen.ts";

/** Eigenvalues in descending order, and the unit eigenvectors that belong to them. */
export interface PrincipalDirections {
  /** All `columns` eigenvalues of AᵀA; those beyond A's rank are 0. */
  readonly values: Float64Array;
  /** Row k is the eigenvector of value k, for the first `vectors.rows` values. */
  readonly vectors: HostMatrix;
}

/**
 * The eigenvalues of AᵀA that are at least `threshold`, with their eigenvectors. Solves the
 * eigenproblem of AᵀA or of AAᵀ, whichever is smaller: with AAᵀu = μu, the vector Aᵀu/√μ is a unit
 * eigenvector of AᵀA.
 *
 * @param a [rows, columns]
 * @param threshold above 0
 */
export function principalDirections(a: HostMatrix, threshold: number): PrincipalDirections {
  const { columns } = a;
  const small = a.rows < columns;
  const { values, vectors } = small
    ? symmetricEigen(timesTransposed(a, a).values, a.rows)
    : symmetricEigen(gramOfColumns(a).values, columns);
  if (!Number.isFinite(values[0] ?? 0)) {
    throw new EditError(
      "Cannot edit by embeddings whose covariance is not finite: the text encoder's states are too large",
    );
  }
  const all = new Float64Array(columns);
  values.forEach((value, i) => all[i] = Math.max(value, 0));
  const count = all.findIndex((value) => value < threshold);
  const rows = count < 0 ? columns : count;
  const size = small ? a.rows : columns;
  const kept: HostMatrix = { rows, columns: size, values: vectors.subarray(0, rows * size) };
  return { values: all, vectors: small ? scaledRows(times(kept, a), (row) => 1 / Math.sqrt(all[row])) : kept };
}
