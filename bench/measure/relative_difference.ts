/** ‖a − b‖ / ‖b‖: the relative difference of two results. */
export function relativeDifference(a: Float32Array, b: Float32Array): number {
  let difference = 0, norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return Math.sqrt(difference / norm);
}
