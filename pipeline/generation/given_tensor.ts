/** Tensors that callers hand in: on the device, or as arrays on the host. */

import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { NonFiniteError, OptionError } from "../errors.ts";
import { kind, type OptionKind, shown } from "../options.ts";

/** A tensor on the host, row-major. */
export interface HostTensor {
  /** The elements. */
  readonly data: ArrayLike<number>;
  /** The lengths of the axes. */
  readonly shape: readonly number[];
}

/** The kind of options that take a tensor. */
export const tensorKind: OptionKind = kind(
  "a Tensor or { data, shape } with an array of numbers",
  (value) =>
    value instanceof Tensor ||
    typeof value === "object" && value !== null && "data" in value && "shape" in value &&
      Array.isArray(value.shape) && value.shape.every((length) => Number.isSafeInteger(length) && length >= 0) &&
      (Array.isArray(value.data) || ArrayBuffer.isView(value.data) && !(value.data instanceof DataView)),
);

/**
 * A copy of a given tensor on the device, taken at once: what is written to the original later does
 * not reach it. The caller owns the copy.
 *
 * @throws {ShapeError} when the number of elements is not the shape's
 * @throws {NonFiniteError} when an array on the host holds NaN or an infinity; for tensors on the
 *   device see {@linkcode checkFinite}
 * @throws {OptionError} for anything that is no tensor, or a tensor of another device
 */
export function takeTensor(gpu: Gpu, name: string, given: Tensor | HostTensor): Tensor {
  if (!tensorKind.accepts(given)) {
    throw new OptionError(`Cannot use ${name} as it must be ${tensorKind.requirement}: ${shown(given)}`, {
      option: name,
      value: given,
    });
  }
  if (given instanceof Tensor) {
    if (given.gpu.context !== gpu.context) {
      throw new OptionError(`Cannot use ${name} as the tensor is on another device than the model: copy it over`, {
        option: name,
        value: given,
      });
    }
    return linearCombination([{ tensor: given, coefficient: 1 }]).keep();
  }
  const { data, shape } = given;
  const wanted = elements(shape);
  if (data.length !== wanted) {
    throw new ShapeError(
      `Cannot use ${name} [${shape.join(", ")}] as its data must hold ${wanted} elements: ${data.length}`,
      [shape],
    );
  }
  const values = Float32Array.from(data, (value: unknown) => isNumeric(value) ? Number(value) : NaN);
  refuseNonFinite(name, values);
  return Tensor.from(gpu, values, shape).keep();
}

/**
 * Reads a copy that {@linkcode takeTensor} made of a tensor on the device.
 *
 * @throws {NonFiniteError} when it holds NaN or an infinity
 */
export async function checkFinite(name: string, tensor: Tensor): Promise<void> {
  refuseNonFinite(name, await tensor.data());
}

function isNumeric(value: unknown): boolean {
  return typeof value === "number" || typeof value === "bigint";
}

function refuseNonFinite(name: string, values: Float32Array): void {
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return;
  throw new NonFiniteError(`Cannot use ${name} as all elements must be finite numbers: element ${at} is ${values[at]}`);
}
