/**
 * Places the labels of points so that they overlap neither points nor each other.
 *
 * @module
 */

/** A rectangle. */
export interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** A label to place. */
export interface Label {
  readonly text: string;
  /** The point that it belongs to. */
  readonly x: number;
  readonly y: number;
  /** Half the side of the point's mark. */
  readonly radius: number;
}

/** A label with its place. */
export interface PlacedLabel extends Label {
  readonly box: Box;
  /** Where a line from the point ends, if the label is not beside it. */
  readonly leader?: { readonly x: number; readonly y: number };
}

/** Size of the text, in units of the drawing; digits are this wide at most. */
const digitWidth = 7.5, lineHeight = 15;

/** Directions from a point: right, left, above, below, then the diagonals. */
const directions = [[1, 0], [-1, 0], [0, -1], [0, 1], [1, 1], [-1, 1], [1, -1], [-1, -1]] as const;

/** Steps away from the point that are tried. */
const steps = 24;

/** The square around a point. */
export function boxAround({ x, y }: { readonly x: number; readonly y: number }, radius: number): Box {
  return { left: x - radius, right: x + radius, top: y - radius, bottom: y + radius };
}

/**
 * Places each label as near to its point as there is room, in order. A label without room is left
 * out.
 */
export function placeLabels<T extends Label>(
  labels: readonly T[],
  { within, obstacles }: { readonly within: Box; readonly obstacles: readonly Box[] },
): (T & PlacedLabel)[] {
  const taken = [...obstacles], placed: (T & PlacedLabel)[] = [];
  for (const label of labels) {
    const place = placeOf(label, within, taken);
    if (place === undefined) continue;
    taken.push(place.box);
    placed.push({ ...label, ...place });
  }
  return placed;
}

function placeOf(label: Label, within: Box, taken: readonly Box[]): Pick<PlacedLabel, "box" | "leader"> | undefined {
  const { text, x, y, radius } = label;
  const width = text.length * digitWidth;
  for (let step = 0; step < steps; step++) {
    const gap = radius + 4 + step * lineHeight / 2;
    for (const [right, down] of directions) {
      const left = right === 0 ? x - width / 2 : right > 0 ? x + gap : x - gap - width;
      const middle = y + down * (gap + lineHeight / 2);
      const box = { left, right: left + width, top: middle - lineHeight / 2, bottom: middle + lineHeight / 2 };
      if (!isWithin(box, within) || taken.some((other) => overlap(box, other))) continue;
      const end = { x: right === 0 ? x : right > 0 ? left - 1 : box.right + 1, y: middle };
      return step === 0 ? { box } : { box, leader: end };
    }
  }
}

function isWithin(box: Box, within: Box): boolean {
  return box.left >= within.left && box.right <= within.right && box.top >= within.top && box.bottom <= within.bottom;
}

/** Whether two boxes share an area. */
export function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
