/**
 * The x in 0 … 1 below which a share `p` of the Beta(a, a) distribution lies.
 *
 * The unnormalized integral is x^a (1 − x)^a / a · Σ_n Π_k (2a + k) / (a + 1 + k) · x^n (DLMF
 * 8.17.7 and 8.17.8). It is summed for x ≤ 1/2 and inverted by bisection. At 1/2 it is half of the
 * whole, by symmetry.
 */
export function symmetricBetaQuantile(p: number, a: number): number {
  if (p > 0.5) return 1 - symmetricBetaQuantile(1 - p, a);
  if (p === 0) return 0;
  const target = 2 * p * integralTo(0.5, a);
  let low = 0, high = 0.5;
  for (;;) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) return middle;
    if (integralTo(middle, a) < target) low = middle;
    else high = middle;
  }
}

/** ∫_0^x (t (1 − t))^(a − 1) dt for x ≤ 1/2. */
function integralTo(x: number, a: number): number {
  let sum = 0, term = 1;
  for (let n = 0; sum + term !== sum; n++) {
    sum += term;
    term *= x * (2 * a + n) / (a + 1 + n);
  }
  return (x * (1 - x)) ** a / a * sum;
}
