import { GpuError } from "../../engine/errors.ts";
import type { Tensor } from "../../engine/tensor.ts";

/**
 * Checks the number that is added to a variance. A negative one makes NaN of the elements whose
 * variance is smaller.
 *
 * @throws {GpuError} when it is no finite number of at least 0
 */
export function checkEpsilon(x: Tensor, epsilon: number): void {
  if (Number.isFinite(epsilon) && epsilon >= 0) return;
  throw new GpuError(
    `Cannot normalize [${x.shape.join(", ")}] as epsilon must be a finite number of at least 0: ${epsilon}`,
  );
}
