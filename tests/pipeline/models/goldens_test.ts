/** The models' golden tests on Deno's WebGPU. */
import type { GpuOptions } from "../../../engine/gpu.ts";
import { gpuTest } from "../../gpu.ts";
import { goldensOnDisk } from "../../paths.ts";
import { modelGoldens } from "../golden_suite.ts";

function modelTests(name: string, options: GpuOptions, on: string): void {
  for (const golden of modelGoldens(name)) {
    gpuTest(`${golden.name}${on}`, (gpu) => golden.run(gpu, goldensOnDisk), options);
  }
}

for (const name of ["sd1-mini", "sd2-mini"]) modelTests(name, {}, "");
modelTests("sd1-mini", { withoutFeatures: ["subgroups", "wgpu-shader-f64"] }, " on a device without subgroups");
