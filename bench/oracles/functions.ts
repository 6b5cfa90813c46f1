/**
 * Functions of one value, and the statistics of norms, in float64.
 *
 * @module
 */
import type { Activation } from "../../kernels/wgsl/activation.ts";

/** erf(x) in float64: its Maclaurin series for |x| < 3, else 1 − the continued fraction of erfc. */
export function erf(x: number): number {
  const z = Math.abs(x);
  if (z < 3) {
    let term = z, sum = z;
    for (let n = 1; n < 80; n++) sum += (term *= -z * z / n) / (2 * n + 1);
    return Math.sign(x) * sum * 2 / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction));
}

const gelu = (x: number) => 0.5 * x * (1 + erf(x / Math.SQRT2));

/** The definition of every activation. */
export const activations: Readonly<Record<Activation, (x: number) => number>> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu,
  quick_gelu: (x) => x / (1 + Math.exp(-1.702 * x)),
  relu: (x) => Math.max(x, 0),
  soft_clamp_3: (x) => 3 * Math.tanh(x / 3),
  to_unit: (x) => (x + 1) / 2,
  to_signed: (x) => 2 * x - 1,
};

/** GEGLU: x₁ · gelu(x₂) for rows [x₁, x₂] of `half` elements each. */
export function gegluOf(data: ArrayLike<number>, half: number): Float64Array {
  return Float64Array.from({ length: data.length / 2 }, (_, i) => {
    const at = Math.floor(i / half) * 2 * half + i % half;
    return data[at] * gelu(data[at + half]);
  });
}

/** Mean and variance (divided by n) of `length` elements from `start` on. */
function meanAndVariance(data: ArrayLike<number>, start: number, length: number): [number, number] {
  let mean = 0, variance = 0;
  for (let i = start; i < start + length; i++) mean += data[i] / length;
  for (let i = start; i < start + length; i++) variance += (data[i] - mean) ** 2 / length;
  return [mean, variance];
}

/** Weight and bias of a norm, one a channel, and its ε. */
export interface NormParameters {
  readonly weight: ArrayLike<number>;
  readonly bias: ArrayLike<number>;
  readonly epsilon: number;
}

/** Group norm of x [batch, channels, plane], with SiLU after it if asked for. */
export function groupNormOf(
  x: ArrayLike<number>,
  [batch, channels, plane]: readonly [number, number, number],
  { groups, silu = false, weight, bias, epsilon }: NormParameters & {
    readonly groups: number;
    readonly silu?: boolean;
  },
): Float64Array {
  const perGroup = channels / groups, y = new Float64Array(x.length);
  for (let range = 0; range < batch * groups; range++) {
    const start = range * perGroup * plane;
    const [mean, variance] = meanAndVariance(x, start, perGroup * plane);
    for (let i = start; i < start + perGroup * plane; i++) {
      const channel = Math.floor(i / plane) % channels;
      const value = (x[i] - mean) / Math.sqrt(variance + epsilon) * weight[channel] + bias[channel];
      y[i] = silu ? activations.silu(value) : value;
    }
  }
  return y;
}

/** Layer norm of rows of `width` elements. */
export function layerNormOf(
  x: ArrayLike<number>,
  width: number,
  { weight, bias, epsilon }: NormParameters,
): Float64Array {
  const y = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += width) {
    const [mean, variance] = meanAndVariance(x, row, width);
    for (let i = 0; i < width; i++) {
      y[row + i] = (x[row + i] - mean) / Math.sqrt(variance + epsilon) * weight[i] + bias[i];
    }
  }
  return y;
}

/** Cosines and sines of x at each frequency, of the angles that f32 holds; see `sinusoids`. */
export function sinusoidsOf(
  x: ArrayLike<number>,
  frequencies: ArrayLike<number>,
  { cosinesFirst }: { readonly cosinesFirst: boolean },
): number[] {
  return Array.from(x).flatMap((value) => {
    const angles = Array.from(frequencies, (frequency) => Math.fround(value * frequency));
    const [cosines, sines] = [angles.map(Math.cos), angles.map(Math.sin)];
    return cosinesFirst ? [...cosines, ...sines] : [...sines, ...cosines];
  });
}

/** Guided predictions with part of the deviation of the conditional ones; see `rescaleGuided`. */
export function rescaledOf(
  guided: ArrayLike<number>,
  conditional: ArrayLike<number>,
  { rows, rescale }: { readonly rows: number; readonly rescale: number },
): Float64Array {
  const columns = guided.length / rows;
  const deviation = (values: ArrayLike<number>, row: number) => {
    const some = Array.from({ length: columns }, (_, i) => values[row * columns + i]);
    const mean = some.reduce((sum, value) => sum + value, 0) / columns;
    return Math.sqrt(some.reduce((sum, value) => sum + (value - mean) ** 2, 0) / columns);
  };
  const factors = Array.from(
    { length: rows },
    (_, row) => rescale * deviation(conditional, row) / deviation(guided, row) + 1 - rescale,
  );
  return Float64Array.from(guided, (value, i) => value * factors[Math.floor(i / columns)]);
}
