/** Monotone cubic interpolation: curves without kinks or overshoot. @module */

/** A function through the points; `xs` ascend. Constant outside. */
export function monotoneCurve(xs: readonly number[], ys: readonly number[]): (x: number) => number {
  const count = xs.length;
  if (count < 2) return () => ys[0] ?? NaN;
  const slopes = Array.from({ length: count - 1 }, (_, i) => (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]));
  // Harmonic means keep the curve between its points (Fritsch and Butland, 1984).
  const tangents = ys.map((_, i) => {
    if (i === 0) return slopes[0];
    if (i === count - 1) return slopes[count - 2];
    const [before, after] = [slopes[i - 1], slopes[i]];
    return before * after <= 0 ? 0 : 2 * before * after / (before + after);
  });
  return (x) => {
    if (x <= xs[0]) return ys[0];
    if (x >= xs[count - 1]) return ys[count - 1];
    const i = xs.findLastIndex((at) => at <= x);
    const width = xs[i + 1] - xs[i];
    const t = (x - xs[i]) / width;
    return (1 + 2 * t) * (1 - t) ** 2 * ys[i] + t * (1 - t) ** 2 * width * tangents[i] +
      t * t * (3 - 2 * t) * ys[i + 1] + t * t * (t - 1) * width * tangents[i + 1];
  };
}
