/**
 * The rows of an edit: pairs of a source embedding c and a destination embedding d, with weights.
 */

import { ShapeError } from "../../../engine/errors.ts";
import { EditError } from "../../errors.ts";

/** Rows made ready for solving, in float64. Row-major. */
export interface EditRows {
  /** Numbers of a row: the embeddings' width. */
  readonly width: number;
  /** Rows as given. */
  readonly given: number;
  /** Rows left after merging. */
  readonly count: number;
  /**
   * How many of these, the last ones, change anything: d ≠ c. Those before are kept as they are.
   */
  readonly edited: number;
  /** C [count, width]. */
  readonly source: Float64Array<ArrayBuffer>;
  /** D − C [count, width]. */
  readonly change: Float64Array<ArrayBuffer>;
  /** w [count]: the weights given, summed over merged rows. */
  readonly weights: Float64Array<ArrayBuffer>;
}

/**
 * Merges rows with equal sources, which is exact: Σ wᵢ‖d − dᵢ‖² differs from (Σ wᵢ)‖d − mean‖² by a
 * constant, so m rows (c, dᵢ) are one row (c, weighted mean of dᵢ) of weight Σ wᵢ. Rows of weight 0
 * are dropped. Rows that change nothing come first: forward substitution then leaves zeros in their
 * places, and the factors of E − I need no row for them.
 *
 * @param source [n, width]
 * @param destination [n, width]
 * @throws {EditError} when a number is not finite, a weight is negative, or no row is left
 */
export function mergeRows(
  source: Float64Array,
  destination: Float64Array,
  options: { width: number; weights?: ArrayLike<number> },
): EditRows {
  const { width } = options;
  const given = source.length / width;
  const weights = options.weights ?? new Float64Array(given).fill(1);
  if (destination.length !== source.length || weights.length !== given) {
    throw new ShapeError(
      `Cannot edit ${given} source rows as ${
        destination.length / width
      } destinations and ${weights.length} weights were given`,
      [[given, width], [destination.length / width, width]],
    );
  }
  for (const [name, values] of [["source", source], ["destination", destination]] as const) {
    const at = firstNonFinite(values);
    if (at >= 0) {
      throw new EditError(
        `Cannot edit with a ${name} that is not finite: ${values[at]} in row ${Math.floor(at / width)}, column ${
          at % width
        }`,
      );
    }
  }
  for (let row = 0; row < given; row++) {
    if (!(Number.isFinite(weights[row]) && weights[row] >= 0)) {
      throw new EditError(`Cannot weigh row ${row} by ${weights[row]} as weights are finite and not negative`);
    }
  }

  const groups = groupEqualRows(source, width).map((rows) => rows.filter((row) => weights[row] > 0))
    .filter((rows) => rows.length > 0);
  if (groups.length === 0) {
    throw new EditError(`Cannot edit without rows: ${given} were given, and none has a weight above 0`);
  }
  const merged = groups.map((rows) => {
    const weight = rows.reduce((sum, row) => sum + weights[row], 0);
    const change = new Float64Array(width);
    let edits = false;
    for (const row of rows) {
      const share = weights[row] / weight;
      for (let j = 0, at = row * width; j < width; j++, at++) {
        change[j] += share * (destination[at] - source[at]);
        edits ||= change[j] !== 0;
      }
    }
    return { first: rows[0], weight, change, edits };
  });
  const ordered = [...merged.filter(({ edits }) => !edits), ...merged.filter(({ edits }) => edits)];
  const count = ordered.length;
  const result = {
    width,
    given,
    count,
    edited: merged.filter(({ edits }) => edits).length,
    source: new Float64Array(count * width),
    change: new Float64Array(count * width),
    weights: Float64Array.from(ordered, ({ weight }) => weight),
  };
  ordered.forEach(({ first, change }, row) => {
    result.source.set(source.subarray(first * width, (first + 1) * width), row * width);
    result.change.set(change, row * width);
  });
  return result;
}

function firstNonFinite(values: Float64Array): number {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i;
  return -1;
}

/**
 * Indices of rows that are equal, number by number; groups and their members in order of
 * appearance.
 */
function groupEqualRows(values: Float64Array, width: number): number[][] {
  const words = new Int32Array(values.buffer, values.byteOffset, values.length * 2);
  const equal = (a: number, b: number) => {
    for (let j = 0; j < width; j++) if (values[a * width + j] !== values[b * width + j]) return false;
    return true;
  };
  const groups: number[][] = [];
  const byHash = new Map<number, number[][]>();
  for (let row = 0; row < values.length / width; row++) {
    let hash = 0;
    for (let j = 2 * row * width; j < 2 * (row + 1) * width; j++) hash = Math.imul(hash ^ words[j], 0x01000193) | 0;
    const candidates = byHash.get(hash) ?? [];
    const group = candidates.find(([first]) => equal(first, row));
    if (group) group.push(row);
    else {
      const fresh = [row];
      groups.push(fresh);
      byHash.set(hash, [...candidates, fresh]);
    }
  }
  return groups;
}
