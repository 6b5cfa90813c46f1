/** The engine: a device, tensors, typed kernels, recorded work. It knows no neural network. */
export type { DType, HostArray } from "./dtype.ts";
export {
  DeviceLostError,
  DTypeError,
  GpuError,
  KernelError,
  NoAdapterError,
  OutOfMemoryError,
  ShapeError,
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
export { Tensor, type TensorWindow } from "./tensor.ts";
