import type { Gpu } from "../../engine/gpu.ts";

/** A device, as far as WebGPU and the system describe it. */
export interface DeviceFacts {
  readonly name: string;
  readonly isFallbackAdapter: boolean;
  /** What the system says of its drivers; empty where it says nothing. */
  readonly drivers: readonly string[];
  readonly subgroupSize: number;
  readonly features: readonly string[];
  /** Features that the device does not have, each with what follows from that. */
  readonly missing: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, number>>;
}

/** What useful features are for. */
const consequences: Readonly<Record<string, string>> = {
  "subgroups": "sums go through workgroup memory",
  "timestamp-query": "kernels cannot be timed one by one",
  "shader-f16": "f16 is unpacked from 32-bit words",
  "wgpu-shader-f64": "edits are solved in f32, refined by exact products",
};

/** Describes an open device. */
export async function deviceFacts({ info }: Gpu): Promise<DeviceFacts> {
  const missing = Object.entries(consequences).filter(([feature]) => !info.features.has(feature));
  return {
    name: info.name,
    isFallbackAdapter: info.isFallbackAdapter,
    drivers: await systemDrivers(),
    subgroupSize: info.subgroupSize,
    features: [...info.features].sort(),
    missing: Object.fromEntries(missing),
    limits: { ...info.limits },
  };
}

/**
 * Drivers that a Linux system has: NVIDIA's kernel module with its version, and the manifests of
 * Vulkan drivers. WebGPU tells no driver versions.
 */
async function systemDrivers(): Promise<string[]> {
  if (Deno.build.os !== "linux") return [];
  const drivers: string[] = [];
  const nvidia = await Deno.readTextFile("/proc/driver/nvidia/version").catch(() => undefined);
  if (nvidia !== undefined) drivers.push(nvidia.split("\n")[0].replace(/\s+/g, " ").trim());
  for (const folder of ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"]) {
    try {
      const names: string[] = [];
      for await (const { name } of Deno.readDir(folder)) if (name.endsWith(".json")) names.push(name);
      drivers.push(...names.sort());
    } catch { // no such folder, or it may not be read
    }
  }
  return drivers;
}
