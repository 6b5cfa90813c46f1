/**
 * Every choice that depends on the device: tiles, attention forms, workgroup shapes, thresholds.
 *
 * An operation calls {@linkcode policyOf} with its device, and asks the part of the policy that its
 * family has: `policyOf(gpu).products.tileFor(m, n)`. Each part is a file in `kernels/policy/`. A
 * policy is immutable: the device's description and the tuning that the device was opened with
 * determine it. Measurements behind the defaults: docs/tuning.md.
 *
 * @module
 */
import type { DeviceDescription } from "../engine/device_info.ts";
import type { Gpu, GpuInfo } from "../engine/gpu.ts";
import { unsupportedAttentionReason } from "./attention/form.ts";
import type { TileShape } from "./gemm/tile_shape.ts";
import { unsupportedReason } from "./gemm/tile_support.ts";
import { AttentionPolicy } from "./policy/attention.ts";
import { ConvolutionPolicy } from "./policy/convolutions.ts";
import { isSoftware, type PolicyDevice } from "./policy/device.ts";
import { PassPolicy } from "./policy/passes.ts";
import { ProductPolicy } from "./policy/products.ts";
import { SolverPolicy } from "./policy/solver.ts";
import { hasManyRegisters } from "./policy/tile_defaults.ts";
import { type AdapterTuning, malformedTuningReason, type Tuning, TuningError } from "./tuning.ts";

/**
 * The name of a device's entry in a {@linkcode Tuning}. A device opened with subgroup matrices or
 * f16 arithmetic has an entry of its own.
 */
export function tuningName(info: GpuInfo): string {
  return info.name + (info.subgroupMatrix ? " with subgroup matrices" : "") +
    (info.arithmetic === "f16" ? " with f16 arithmetic" : "");
}

/** The choices for one device. Created by {@linkcode policyFor}. */
export class Policy {
  /** Tiles and splits of products, and tiles of convolutions. */
  readonly products: ProductPolicy;
  /** The kernel of a convolution. */
  readonly convolutions: ConvolutionPolicy;
  /** The form of attention. */
  readonly attention: AttentionPolicy;
  /** Elementwise kernels, copies, reductions and norms. */
  readonly passes: PassPolicy;
  /** Products of the edit's solver. */
  readonly solver: SolverPolicy;
  readonly #device: PolicyDevice;

  /** @throws {TuningError} when the device cannot run its tuning */
  constructor({ info, options }: DeviceDescription) {
    const device = { info, tuned: tuningOf(info, (options.tuning ?? {}) as Tuning) };
    this.#device = device;
    this.products = new ProductPolicy(device);
    this.convolutions = new ConvolutionPolicy(device);
    this.attention = new AttentionPolicy(device);
    this.passes = new PassPolicy(device);
    this.solver = new SolverPolicy(device);
  }

  /** Whether the device computes on the CPU, as lavapipe and SwiftShader do. */
  get isSoftware(): boolean {
    return isSoftware(this.#device);
  }

  /** The tuning in use for this device; empty where it has none. */
  get tuned(): AdapterTuning {
    return this.#device.tuned;
  }

  /** Describes the class of devices whose defaults this one gets, for `bluerose doctor`. */
  get defaultsName(): string {
    const { info } = this.#device;
    if (this.isSoftware) return `software devices with${info.subgroupSize > 0 ? "" : "out"} subgroups`;
    return hasManyRegisters(info)
      ? "NVIDIA and AMD GPUs, which have 255 registers an invocation"
      : "GPUs with few registers an invocation";
  }
}

/** A device's entry of a tuning. @throws {TuningError} when the device cannot run it */
function tuningOf(info: GpuInfo, tuning: Tuning): AdapterTuning {
  const name = tuningName(info);
  const tuned: AdapterTuning = Object.hasOwn(tuning, name) ? tuning[name] : {};
  const malformed = malformedTuningReason(tuned, name);
  if (malformed) throw new TuningError(`Cannot use the option tuning as ${malformed}`);
  const { attention = {}, products = {}, ...tiles } = tuned;
  for (
    const [kind, { splits: _, ...shape }] of Object.entries<TileShape & { splits?: number }>({ ...tiles, ...products })
  ) {
    const why = unsupportedReason(info, shape);
    if (why) throw new TuningError(`Cannot use the tuned tile "${kind}" on ${name} as ${why}`);
  }
  for (const [width, form] of Object.entries(attention)) {
    const why = unsupportedAttentionReason(info, Number(width), form, { half: info.arithmetic === "f16" });
    if (why) throw new TuningError(`Cannot use the tuned attention for head width ${width} on ${name} as ${why}`);
  }
  return tuned;
}

/** Creates the policy of a device. @throws {TuningError} when the device cannot run its tuning */
export function policyFor(device: DeviceDescription): Policy {
  return new Policy(device);
}

/** The policy of an open device, created once. @throws {TuningError} as {@linkcode policyFor} */
export function policyOf(gpu: Gpu): Policy {
  return gpu.context.memo(policyFor);
}
