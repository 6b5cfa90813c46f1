/**
 * What the code alone tells of a register's value in each lane of a wave.
 *
 * @module
 */

/**
 * A value per lane. Where `isRelative`, a number that the code does not tell, the same in all
 * lanes, comes on top of each: a buffer's content, or the count of a loop. The first known value is
 * then 0.
 */
export interface Lanes {
  readonly values: Int32Array;
  /** 1 in the lanes whose value is known, of which there is at least one. */
  readonly known: Uint8Array;
  readonly isRelative: boolean;
}

/** A value per lane, or undefined where the code tells none. */
export type Known = Lanes | undefined;

/** One bit per lane, or undefined where the code does not tell all of them. */
export type Mask = Uint8Array | undefined;

function mapped(wave: number, of: (lane: number) => number): Int32Array {
  const values = new Int32Array(wave);
  for (let lane = 0; lane < wave; lane++) values[lane] = of(lane);
  return values;
}

const all = new Map<number, Uint8Array>();

/** All lanes. */
function allOf(wave: number): Uint8Array {
  const mask = all.get(wave) ?? new Uint8Array(wave).fill(1);
  all.set(wave, mask);
  return mask;
}

/**
 * A value of which `known` lanes are known. Unknown lanes hold 0, and so does the first known one
 * of a pattern.
 */
function lanesOf(values: Int32Array, known: Uint8Array, isRelative: boolean): Known {
  const first = known.indexOf(1);
  if (first < 0) return undefined;
  const base = isRelative ? values[first] : 0;
  if (base === 0 && !known.includes(0)) return { values, known, isRelative };
  return { values: mapped(values.length, (lane) => known[lane] * (values[lane] - base)), known, isRelative };
}

/** `value` in all lanes. */
export const constant = (wave: number, value: number): Lanes => ({
  values: new Int32Array(wave).fill(value),
  known: allOf(wave),
  isRelative: false,
});

const uniforms = new Map<number, Lanes>();

/** One unknown number in all lanes. */
export function someUniform(wave: number): Lanes {
  const lanes = uniforms.get(wave) ?? { values: new Int32Array(wave), known: allOf(wave), isRelative: true };
  uniforms.set(wave, lanes);
  return lanes;
}

/** `of` the lanes' indices. */
export const byLane = (wave: number, of: (lane: number) => number): Lanes => ({
  values: mapped(wave, of),
  known: allOf(wave),
  isRelative: false,
});

/** Whether the known lanes hold one number. */
function isUniform({ values, known }: Lanes): boolean {
  const first = values[known.indexOf(1)];
  for (let lane = 0; lane < values.length; lane++) if (known[lane] && values[lane] !== first) return false;
  return true;
}

/** The number that all known lanes hold, where it is known. */
const uniformValue = (lanes: Known): number | undefined =>
  lanes && !lanes.isRelative && isUniform(lanes) ? lanes.values[lanes.known.indexOf(1)] : undefined;

/** The lanes that are known of all values. */
function knownOf(all: readonly Lanes[]): Uint8Array {
  const [first, ...others] = all.map(({ known }) => known).filter((known) => known.includes(0));
  if (!first) return all[0].known;
  return first.map((bit, lane) => others.every((known) => known[lane]) ? bit : 0);
}

/** `of` the operands, lane by lane. */
export function each(of: (...operands: number[]) => number, ...operands: Known[]): Known {
  const all = operands.filter((operand) => operand !== undefined);
  if (all.length < operands.length) return undefined;
  const known = knownOf(all), wave = known.length;
  if (!all.some(({ isRelative }) => isRelative)) {
    return lanesOf(mapped(wave, (lane) => of(...all.map(({ values }) => values[lane]))), known, false);
  }
  return all.every(isUniform) ? lanesOf(new Int32Array(wave), known, true) : undefined;
}

/** a + b, modulo 2³². */
export function add(a: Known, b: Known): Known {
  if (!a || !b) return undefined;
  const values = mapped(a.values.length, (lane) => a.values[lane] + b.values[lane]);
  return lanesOf(values, knownOf([a, b]), a.isRelative || b.isRelative);
}

/** a · b, modulo 2³². */
export function multiply(a: Known, b: Known): Known {
  if (!a || !b) return undefined;
  const [factor, other] = uniformValue(a) === undefined ? [uniformValue(b), a] : [uniformValue(a), b];
  if (factor === undefined || !other.isRelative) return each(Math.imul, a, b);
  return lanesOf(other.values.map((value) => Math.imul(value, factor)), knownOf([a, b]), true);
}

/** a − b, modulo 2³². */
export const subtract = (a: Known, b: Known): Known => add(a, b && multiply(b, constant(b.values.length, -1)));

/** a · 2ⁿ, modulo 2³². */
export function shiftLeft(a: Known, n: Known): Known {
  const bits = uniformValue(n);
  return bits === undefined ? each((x, by) => x << by, a, n) : multiply(a, a && constant(a.values.length, 1 << bits));
}

/** `ifSet` in the lanes of a mask, `otherwise` in the others. */
export function select(mask: Uint8Array, ifSet: Known, otherwise: Known): Known {
  const wave = mask.length, isAnyRelative = ifSet?.isRelative || otherwise?.isRelative;
  // Two unknown numbers have nothing in common: the lanes of one value stay known.
  const kept = isAnyRelative && mask.includes(1) ? undefined : otherwise;
  const source = (lane: number) => mask[lane] ? ifSet : kept;
  const known = mask.map((_, lane) => source(lane)?.known[lane] ?? 0);
  return lanesOf(
    mapped(wave, (lane) => source(lane)?.values[lane] ?? 0),
    known,
    (mask.includes(1) ? ifSet : kept)?.isRelative ?? false,
  );
}

/** What is known where each lane holds its value of `a` or of `b`. */
export function oneOf(a: Known, b: Known): Known {
  if (!a || !b || a.isRelative || b.isRelative) return undefined;
  return lanesOf(a.values, knownOf([a, b]).map((bit, lane) => a.values[lane] === b.values[lane] ? bit : 0), false);
}

/** What is known where all lanes hold `a` or all lanes hold `b`. */
export function either(a: Known, b: Known): Known {
  if (!a || !b || isEqual(a, b)) return a && b;
  const known = knownOf([a, b]);
  const [one, other] = [a, b].map(({ values }) => lanesOf(values, known, true));
  if (isEqual(one, other)) return oneOf(a, b)?.known.every((bit, lane) => bit === known[lane]) ? oneOf(a, b) : one;
  return oneOf(a, b);
}

/** Whether the same is known of two values. */
export const isEqual = (a: Known, b: Known): boolean =>
  a === b || (a !== undefined && b !== undefined && a.isRelative === b.isRelative &&
    a.values.every((value, lane) => a.known[lane] === b.known[lane] && value === b.values[lane]));

/** The lanes in which `of` the operands holds. */
export function compare(of: (a: number, b: number) => boolean, a: Known, b: Known): Mask {
  const bits = each((x, y) => Number(of(x, y)), a, b);
  return bits && !bits.isRelative && bits.known.every((bit) => bit) ? Uint8Array.from(bits.values) : undefined;
}
