/**
 * Checks of operations against float64 definitions, and which kernels a failure points at.
 *
 * @module
 */
import { DeviceLostError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { relativeError } from "../oracles/numbers.ts";

/** One operation at one size, with its float64 definition. */
export interface Check {
  /** The operation, such as "matmul". */
  readonly operation: string;
  /** Sizes and options. */
  readonly shape: string;
  /**
   * The relative error ‖y − expected‖ / ‖expected‖ that rounding may cause; 0 where the result must
   * be exact.
   */
  readonly tolerance: number;
  /**
   * What sets the check's kernels apart from those of the same name in other checks, such as "f16
   * arithmetic": success here proves nothing there. Default: nothing.
   */
  readonly variant?: string;
  /** Why a device cannot run the check; undefined if it can. Default: every device can. */
  readonly unsupportedReason?: (gpu: Gpu) => string | undefined;
  /** Records the operation. Tensors belong to the enclosing scope. */
  readonly run: (gpu: Gpu) => Outcome;
}

/** What an operation computed, and what it must equal. */
export interface Outcome {
  readonly tensor: Tensor;
  readonly expected: ArrayLike<number>;
  /** Brings the tensor's elements into the form of `expected`. Default: they are in that form. */
  readonly read?: (elements: Float64Array) => ArrayLike<number>;
}

/** The result of a {@linkcode Check}. */
export interface CheckResult {
  readonly operation: string;
  readonly shape: string;
  /** The kernels that ran. */
  readonly kernels: readonly string[];
  readonly tolerance: number;
  /** The relative error; absent where the operation failed or was skipped. */
  readonly error?: number;
  /** What is wrong; absent where nothing is. */
  readonly failure?: string;
  /** Why the device cannot run it. */
  readonly skipped?: string;
}

/**
 * Runs one check. Errors of the operation, such as a kernel that does not compile, are part of the
 * result.
 *
 * @throws {DeviceLostError} when the device is lost: nothing can be checked on it any more
 */
export async function runCheck(gpu: Gpu, check: Check): Promise<CheckResult> {
  const { operation, shape, tolerance } = check;
  let kernels: readonly string[] = [];
  const unsupported = check.unsupportedReason?.(gpu);
  if (unsupported !== undefined) return { operation, shape, tolerance, kernels, skipped: unsupported };
  try {
    const { tensor, expected, read = (elements: Float64Array) => elements } = gpu.scope(() => {
      let outcome: Outcome | undefined;
      kernels = gpu.tally(() => outcome = check.run(gpu)).kernels
        .map((kernel) => check.variant === undefined ? kernel : `${kernel} in ${check.variant}`);
      return outcome!;
    });
    using result = tensor;
    const elements = result.dtype === "f64" ? await result.float64() : Float64Array.from(await result.data());
    const actual = read(elements);
    await gpu.finished();
    const error = actual.length === expected.length ? relativeError(actual, expected) : NaN;
    const failure = error <= tolerance
      ? undefined
      : `relative error ${error.toExponential(1)}, where rounding explains ${tolerance.toExponential(1)}`;
    return { operation, shape, kernels, tolerance, error, ...(failure === undefined ? {} : { failure }) };
  } catch (error) {
    if (error instanceof DeviceLostError) throw error;
    await gpu.finished().catch(() => {}); // further errors of the same cause
    return { operation, shape, kernels, tolerance, failure: error instanceof Error ? error.message : `${error}` };
  }
}

/**
 * The kernels that failures point at: those of the failed checks that ran in no successful one, or
 * all of a check's kernels where each ran well elsewhere. A failure that a narrower one explains
 * adds none.
 */
export function suspectKernels(results: readonly CheckResult[]): string[] {
  const good = new Set(results.filter(({ failure }) => failure === undefined).flatMap(({ kernels }) => kernels));
  const candidates = results.filter(({ failure }) => failure !== undefined).map(({ kernels }) => {
    const unproven = kernels.filter((kernel) => !good.has(kernel));
    return unproven.length > 0 ? unproven : kernels;
  });
  const suspects = new Set<string>();
  for (const kernels of candidates.sort((a, b) => a.length - b.length)) {
    if (kernels.some((kernel) => suspects.has(kernel))) continue;
    for (const kernel of kernels) suspects.add(kernel);
  }
  return [...suspects];
}
