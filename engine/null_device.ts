/**
 * A WebGPU device without memory, which computes nothing (Dawn calls such a backend "null"). Work
 * on it takes the buffers that it would take on a real device of the same description, at the cost
 * of recording it. What is read back is zero.
 *
 * @module
 */
import type { GpuInfo } from "./device_info.ts";

/** A null device. It supports what the engine calls. */
export function nullDevice(): GPUDevice {
  const nothing = Promise.resolve(null);
  const none = () => ({});
  const device = {
    lost: new Promise(() => {}),
    queue: { submit() {}, writeBuffer() {}, onSubmittedWorkDone: () => Promise.resolve() },
    addEventListener() {},
    pushErrorScope() {},
    popErrorScope: () => nothing,
    createBindGroup: none,
    createBindGroupLayout: none,
    createPipelineLayout: none,
    createShaderModule: none,
    createComputePipeline: none,
    createBuffer: ({ size }: GPUBufferDescriptor) => ({
      size,
      mapAsync: () => Promise.resolve(),
      getMappedRange: () => new ArrayBuffer(size),
      unmap() {},
      destroy() {},
    }),
    createQuerySet: () => ({ destroy() {} }),
    createCommandEncoder: () => ({
      beginComputePass: () => pass,
      copyBufferToBuffer() {},
      resolveQuerySet() {},
      finish: none,
    }),
    destroy() {},
  };
  return device as unknown as GPUDevice;
}

const pass = { setPipeline() {}, setBindGroup() {}, dispatchWorkgroups() {}, end() {} };

/** Limits and features that GPUs since about 2020 usually have. */
export const typicalInfo: GpuInfo = {
  name: "a typical GPU",
  deviceClass: "other",
  isFallbackAdapter: false,
  features: new Set(["subgroups", "shader-f16"]),
  limits: {
    maxStorageBufferBindingSize: 2 ** 31 - 4,
    maxBufferSize: 2 ** 32,
    maxComputeWorkgroupStorageSize: 32_768,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxStorageBuffersPerShaderStage: 8,
  },
  subgroupSize: 32,
  enables: new Set(["subgroups", "f16"]),
  arithmetic: "f32",
  f64: false,
  compilesLate: false,
  longWords: false,
  copiesParams: false,
  processors: 1,
};
