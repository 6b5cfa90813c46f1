/**
 * Which training timesteps a run visits.
 *
 * @module
 */
import { SchedulerError } from "./error.ts";

/** How timesteps are spaced; see {@linkcode spacedTimesteps}. */
export interface Spacing {
  /** "linspace", "leading" or "trailing" (arXiv 2305.08891, table 2). */
  readonly kind: string;
  /** Number of training timesteps. */
  readonly train: number;
  /** Added to "leading" timesteps. */
  readonly offset: number;
  /** Exclusive upper bound of the timesteps. Default: `train`. */
  readonly last?: number;
  /**
   * Whether one more timestep is spaced at the end and then dropped: for solvers that step toward
   * it.
   */
  readonly open?: boolean;
}

/**
 * `steps` timesteps, descending. "linspace" gives fractions; round them for models that expect
 * integers.
 */
export function spacedTimesteps(steps: number, { kind, train, offset, last = train, open = false }: Spacing): number[] {
  const points = open ? steps + 1 : steps;
  switch (kind) {
    case "linspace":
      return linspace(0, last - 1, points).reverse().slice(0, steps);
    case "leading": {
      const stride = Math.floor(last / points);
      return Array.from({ length: steps }, (_, i) => (points - 1 - i) * stride + offset);
    }
    case "trailing": {
      // numpy.arange uses the rounded difference of its first two values.
      const stride = (last - train / steps) - last;
      const count = Math.ceil(last / (train / steps));
      return Array.from({ length: count }, (_, i) => roundHalfEven(last + i * stride) - 1);
    }
    default:
      throw new SchedulerError(`Cannot space timesteps in an unknown way: timestep_spacing "${kind}"`);
  }
}

/** numpy.linspace in float64. */
export function linspace(start: number, end: number, count: number): number[] {
  const step = (end - start) / (count - 1);
  return Array.from({ length: count }, (_, i) => i === 0 ? start : i === count - 1 ? end : i * step + start);
}

/** As numpy.round: ties go to the even integer. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** Linear interpolation of `values` at a fractional index, constant beyond both ends. */
export function interpolate(values: Float32Array, position: number): number {
  const last = values.length - 1;
  if (position <= 0) return values[0];
  if (position >= last) return values[last];
  const low = Math.floor(position);
  return (values[low + 1] - values[low]) * (position - low) + values[low];
}
