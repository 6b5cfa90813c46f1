/** Reduces many preserved rows to an equivalent few. @module */

import type { HostRows } from "../prompts/recipe.ts";
import { principalDirections } from "./covariance.ts";
import { hostMatrix, scaledRows } from "./host_matrix.ts";

/** Eigenvalues below this fraction of the largest are rounding errors of the f32 text encoder. */
const negligible = 1e-14;

/**
 * Replaces preserved rows, which have d = c, by at most `width` others with the same Σ ω c cᵀ, the
 * only form in which the equations of an edit contain them. The n × n system then has at most
 * `width` rows more than are edited, and E − I keeps thin factors, however many prompts are
 * preserved.
 *
 * @returns the rows unchanged if they are no more than `width`
 */
export function withFewPreserved(rows: HostRows, preserved: HostRows): HostRows {
  const { width } = rows;
  const few = rows.weights.length + preserved.weights.length <= width ? preserved : principalRows(preserved);
  const joined = (a: Float64Array, b: Float64Array) => {
    const whole = new Float64Array(a.length + b.length);
    whole.set(a);
    whole.set(b, a.length);
    return whole;
  };
  return {
    width,
    source: joined(rows.source, few.source),
    destination: joined(rows.destination, few.destination),
    weights: joined(rows.weights, few.weights),
  };
}

function principalRows({ width, source, weights }: HostRows): HostRows {
  const scaled = scaledRows(hostMatrix(source, width), (row) => Math.sqrt(weights[row]));
  let trace = 0;
  for (const value of scaled.values) trace += value * value;
  const { values, vectors } = principalDirections(scaled, Math.max(negligible * trace, Number.MIN_VALUE));
  const principal = scaledRows(vectors, (row) => Math.sqrt(values[row])).values as Float64Array<ArrayBuffer>;
  return { width, source: principal, destination: principal, weights: new Float64Array(vectors.rows).fill(1) };
}
