/**
 * The engine: devices, tensors, typed kernels and recorded work. Knows nothing of neural networks.
 *
 * @module
 */
export type { DType, HostArray } from "./dtype.ts";
export {
  DeviceLostError,
  DTypeError,
  GpuError,
  KernelError,
  NoAdapterError,
  OutOfMemoryError,
  ShapeError,
  UnsupportedFeatureError,
} from "./errors.ts";
export {
  type DeviceClass,
  type DeviceTuning,
  Gpu,
  type GpuInfo,
  type GpuOptions,
  type SubgroupMatrix,
  type WgslExtension,
} from "./gpu.ts";
export type { Program } from "./record/program.ts";
export type { KernelProfile } from "./record/profiler.ts";
export type { Tally } from "./record/tally_sink.ts";
export { Tensor, type TensorWindow } from "./tensor.ts";
