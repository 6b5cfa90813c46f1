/**
 * The layout of arrays in workgroup memory, by which lanes reach different banks.
 *
 * @module
 */

/** The row and the column of an array that a lane accesses. */
export type Cell = (lane: number) => readonly [row: number, column: number];

/** Bytes that banks serve at a time: 32 banks of 4 bytes, on NVIDIA's and AMD's GPUs. */
const bankBytes = 128;
/** Lanes that are looked at. */
const lanes = 64;

/**
 * The elements that a row of an array in workgroup memory takes, so that lanes that access `cells`
 * have the fewest bank conflicts: `columns` and up to two more, as more memory leaves fewer
 * workgroups on a compute unit. Among equals it is the shortest.
 *
 * @param bytes size of an element; lanes are served 128 bytes at a time
 * @param cells what lanes access, an entry per kind of access
 */
export function pitchOf(columns: number, bytes: number, cells: readonly Cell[]): number {
  const served = bankBytes / bytes, pitches = [columns, columns + 1, columns + 2];
  const conflicts = pitches.map((pitch) => cells.reduce((sum, cell) => sum + conflictsOf(cell, pitch, served), 0));
  return pitches[conflicts.indexOf(Math.min(...conflicts))];
}

/**
 * Turns that lanes wait for each other's banks: those of each group of `served` lanes beyond one.
 */
function conflictsOf(cell: Cell, pitch: number, served: number): number {
  let conflicts = 0;
  for (let first = 0; first < lanes; first += served) {
    const places = new Set<number>(), inBank = new Array<number>(served).fill(0);
    for (let lane = first; lane < first + served; lane++) {
      const [row, column] = cell(lane), place = row * pitch + column;
      if (places.has(place)) continue; // lanes that access one place share it
      places.add(place);
      inBank[place % served]++;
    }
    conflicts += Math.max(...inBank) - 1;
  }
  return conflicts;
}
