/**
 * SPEED's refinement of retained concepts for one layer (arXiv 2503.07392): the filter by influence
 * and the directed augmentation.
 *
 * Notation: rows of C [n, d] are the erased concepts, rows of G their destinations, W [features, d]
 * the layer's weight. Erasing alone, without anything retained, changes W by
 *
 *     Δ = W (G − C)ᵀ (I + C Cᵀ)⁻¹ C
 *
 * The influence on a concept r is ‖Δ r‖. Only concepts with more than the mean influence are
 * retained: the others hardly move, and would only narrow the null space. The augmentation adds to
 * each retained concept noise in the directions that W shrinks most, which W maps to nearly the
 * same as the concept; it is filtered, too.
 *
 * @module
 */

import { TorchGenerator } from "../../../schedulers/mod.ts";
import type { HostRows } from "../prompts/recipe.ts";
import {
  combined,
  gramOfColumns,
  type HostMatrix,
  hostMatrix,
  scaledRows,
  times,
  timesTransposed,
  transposed,
} from "./host_matrix.ts";
import { symmetricEigen } from "./symmetric_eigen.ts";

/** How the retained concepts of a layer are refined. */
export interface InfluenceOptions {
  /** Whether concepts with less than the mean influence are left out. */
  readonly filter: boolean;
  /** Perturbed copies of each concept that stays; 0 for none. */
  readonly augment: number;
  /** Number of directions of the noise: right singular vectors of W with the smallest values. */
  readonly augmentRank: number;
}

/** The refined concepts of a layer. */
export interface InfluentialConcepts {
  /** The concepts [m, d], and their perturbed copies. */
  readonly rows: Float64Array;
  /** Indices of the concepts that were kept. */
  readonly kept: readonly number[];
  /** Number of perturbed copies that were kept. */
  readonly augmented: number;
}

/** The noise is the same in every layer and run, so that an edit's recipe gives the edit again. */
const noiseSeed = 0;

/**
 * Refines the retained concepts of a layer.
 *
 * @param given.weight W [features, d]; the key and the value projection stacked, where both are
 *   edited
 */
export function influentialConcepts(
  given: { readonly pairs: HostRows; readonly retained: Float64Array; readonly weight: HostMatrix },
  { filter, augment, augmentRank }: InfluenceOptions,
): InfluentialConcepts {
  const { pairs: { width, source, destination }, weight } = given;
  const retained = hostMatrix(given.retained, width);
  const influence = influenceOf(hostMatrix(source, width), hostMatrix(destination, width), weight);
  const all = Array.from({ length: retained.rows }, (_, row) => row);
  const kept = filter ? aboveMean(influence(retained)) : all;
  const chosen = rowsOf(retained, kept);
  if (augment === 0) return { rows: chosen.values, kept, augmented: 0 };
  const copies = perturbed(chosen, smallestDirections(weight, augmentRank), augment);
  const strong = rowsOf(copies, aboveMean(influence(copies)));
  const rows = new Float64Array(chosen.values.length + strong.values.length);
  rows.set(chosen.values);
  rows.set(strong.values, chosen.values.length);
  return { rows, kept, augmented: strong.rows };
}

/** ‖Δ r‖ of each row r of a matrix. */
function influenceOf(c: HostMatrix, g: HostMatrix, w: HostMatrix): (rows: HostMatrix) => Float64Array {
  const { values, vectors } = symmetricEigen(timesTransposed(c, c).values, c.rows);
  const u: HostMatrix = { rows: c.rows, columns: c.rows, values: vectors };
  // B = (I + C Cᵀ)⁻¹ C = Uᵀ diag(1 / (1 + σ)) U C
  const b = times(transposed(u), scaledRows(times(u, c), (row) => 1 / (1 + Math.max(values[row], 0))));
  const a = timesTransposed(combined(1, g, -1, c), w); // (G − C) Wᵀ [n, features]
  return (rows) => {
    const changes = times(timesTransposed(rows, b), a); // R Bᵀ (G − C) Wᵀ [rows, features]
    return Float64Array.from({ length: rows.rows }, (_, row) => {
      let sum = 0;
      for (let j = row * a.columns; j < (row + 1) * a.columns; j++) sum += changes.values[j] ** 2;
      return Math.sqrt(sum);
    });
  };
}

/** Indices of the values above their mean; all of them where none is. */
function aboveMean(values: Float64Array): number[] {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const above = Array.from(values.keys()).filter((i) => values[i] > mean);
  return above.length > 0 ? above : Array.from(values.keys());
}

function rowsOf({ columns, values }: HostMatrix, rows: readonly number[]): HostMatrix {
  const chosen = new Float64Array(rows.length * columns);
  rows.forEach((row, i) => chosen.set(values.subarray(row * columns, (row + 1) * columns), i * columns));
  return hostMatrix(chosen, columns);
}

/** Right singular vectors [rank, d] of W with the smallest singular values. */
function smallestDirections(w: HostMatrix, rank: number): HostMatrix {
  const { columns } = w, count = Math.min(rank, columns);
  const { vectors } = symmetricEigen(gramOfColumns(w).values, columns);
  return hostMatrix(vectors.slice((columns - count) * columns), columns);
}

/** `copies` of each row, each plus standard normal noise within the span of unit directions. */
function perturbed(rows: HostMatrix, directions: HostMatrix, copies: number): HostMatrix {
  const repeated = rowsOf(rows, Array.from({ length: rows.rows * copies }, (_, i) => Math.floor(i / copies)));
  const noise = new TorchGenerator(noiseSeed).randn([repeated.rows, directions.rows]);
  return combined(1, repeated, 1, times(hostMatrix(Float64Array.from(noise), directions.rows), directions));
}
