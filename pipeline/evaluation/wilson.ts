/** An interval that holds the true rate with 95 % confidence. */
export interface Interval {
  /** Lower bound. */
  readonly low: number;
  /** Upper bound. */
  readonly high: number;
}

/** The 97.5th percentile of the standard normal distribution. */
const z = 1.959963984540054;

/**
 * Wilson's score interval of a rate, at 95 % (Wilson 1927):
 * (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n). It stays within 0 and 1, for few
 * trials too.
 *
 * @returns NaN bounds without trials
 */
export function wilsonInterval(successes: number, trials: number): Interval {
  if (trials === 0) return { low: NaN, high: NaN };
  const rate = successes / trials, z2 = z * z / trials;
  const center = rate + z2 / 2, spread = z * Math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials));
  const bound = (value: number) => Math.min(1, Math.max(0, value / (1 + z2)));
  // exact at the ends, where rounding would leave a bound beside the rate
  return {
    low: successes === 0 ? 0 : bound(center - spread),
    high: successes === trials ? 1 : bound(center + spread),
  };
}
