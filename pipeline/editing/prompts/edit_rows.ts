/**
 * The rows of an edit: weighted pairs of a source embedding c and a destination embedding d.
 */

import { ShapeError } from "../../../engine/errors.ts";
import { EditError } from "../../errors.ts";

/** Merged rows, in float64 and row-major. */
export interface EditRows {
  /** Width of the embeddings. */
  readonly width: number;
  /** Number of rows before merging. */
  readonly given: number;
  /** Number of rows after merging. */
  readonly count: number;
  /**
   * Number of rows with d ≠ c. They are the last ones; the rows before them have d = c and are
   * preserved.
   */
  readonly edited: number;
  /** C [count, width]. */
  readonly source: Float64Array<ArrayBuffer>;
  /** D − C [count, width]. */
  readonly change: Float64Array<ArrayBuffer>;
  /** w [count]: the sum of the weights of the rows merged into each row. */
  readonly weights: Float64Array<ArrayBuffer>;
}

/**
 * Merges rows with equal sources. This is exact: Σ wᵢ‖d − dᵢ‖² and (Σ wᵢ)‖d − mean‖² differ by a
 * constant, so rows (c, dᵢ) are equivalent to one row (c, weighted mean of dᵢ) of weight Σ wᵢ. Rows
 * of weight 0 are dropped. Rows with d = c come first: forward substitution then leaves their rows
 * zero, and the factors of E − I can omit them.
 *
 * @param source [n, width]
 * @param destination [n, width]
 * @throws {EditError} when a value is not finite, a weight is negative, or no row is left
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
      throw new EditError(`Cannot weight row ${row} by ${weights[row]}: weights must be finite and not negative`);
    }
  }

  const groups = groupEqualRows(source, width).map((rows) => rows.filter((row) => weights[row] > 0))
    .filter((rows) => rows.length > 0);
  if (groups.length === 0) {
    throw new EditError(`Cannot edit without rows: ${given} were given, but none has a weight above 0`);
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
 * Groups the indices of equal rows. Groups and their members are in order of appearance.
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
