/**
 * Compiles the cases for the GPU that RADV is told to be (RADV_FORCE_FAMILY), and prints what the
 * model says of each kernel as JSON. Started by main.ts with the environment of the null driver.
 *
 *     compile_cases.ts GPU FOLDER PATTERN CASES
 *
 * null_icd.c writes its files to FOLDER/GPU; the WGSL and the assembly of every kernel go there.
 *
 * @module
 */
import { Gpu, type GpuOptions } from "../../engine/gpu.ts";
import { writeText } from "../../pipeline/output/file.ts";
import { findDawn } from "../measure/dawn.ts";
import { architectures } from "./architecture.ts";
import { parseCompiled } from "./assembly.ts";
import type { ModelCase } from "./cases.ts";
import type { KernelVerdict } from "./record.ts";
import { judge } from "./verdict.ts";

/** A pipeline of a case, and the driver's file about it. */
interface Created {
  readonly kernel: string;
  readonly wgsl: string;
  readonly file: string;
}

const countFiles = (folder: string) =>
  [...Deno.readDirSync(folder)].filter(({ name }) => /^\d+\.txt$/.test(name)).length;

/**
 * Reports the pipelines that a device creates. The driver numbers pipelines in the order of their
 * creation, and WebGPU creates some of its own: those that appear during a call belong to it.
 */
function watch(device: GPUDevice, folder: string, created: Created[]): void {
  const sources = new Map<unknown, string>();
  const createModule = device.createShaderModule.bind(device), create = device.createComputePipeline.bind(device);
  device.createShaderModule = (descriptor) => {
    const module = createModule(descriptor);
    sources.set(module, descriptor.code);
    return module;
  };
  device.createComputePipeline = (descriptor) => {
    const first = countFiles(folder);
    const pipeline = create(descriptor);
    const wgsl = sources.get(descriptor.compute.module) ?? "";
    for (let i = first; i < countFiles(folder); i++) {
      created.push({ kernel: descriptor.label ?? "", wgsl, file: `${folder}/${i}.txt` });
    }
    return pipeline;
  };
}

/**
 * What the model says of a pipeline of the case `title`.
 *
 * @param text the driver's file about it
 */
function verdictOf(
  title: string,
  { kernel, wgsl }: Created,
  { gpu, text }: { gpu: string; text: string },
): KernelVerdict {
  const compiled = parseCompiled(text), s = compiled.statistics;
  const threads = Number(/@workgroup_size\((\d+)/.exec(wgsl)?.[1] ?? 64);
  return {
    case: title,
    kernel,
    wave: s["Subgroup size"],
    registers: s["VGPRs"],
    spilled: s["Spilled VGPRs"],
    scratchBytes: s["Scratch size"],
    ldsBytes: s["LDS size"],
    codeBytes: s["Code size"],
    ...judge(compiled, architectures[gpu], threads),
  };
}

/** What a module of cases exports. */
export interface CaseModule {
  readonly cases: Readonly<Record<string, ModelCase>>;
  readonly f16Cases?: Readonly<Record<string, ModelCase>>;
  readonly matrixCases?: Readonly<Record<string, ModelCase>>;
}

/**
 * The options of a device with subgroup matrices: of Dawn, as Deno's own WebGPU has none. Undefined
 * where Dawn or the GPU has none.
 */
async function matrixOptions(gpu: string): Promise<GpuOptions | undefined> {
  const { gpu: dawn, missing } = await findDawn();
  const options = { gpu: dawn, subgroupMatrices: true };
  if (!missing) {
    using device = await Gpu.request(options);
    if (device.info.subgroupMatrix) return options;
  }
  console.error(`Cases with subgroup matrices are left out: ${missing ?? `Dawn finds none on ${gpu}`}`);
}

async function main([name, folder, pattern, casesUrl]: string[]): Promise<void> {
  const { cases, f16Cases = {}, matrixCases = {} } = await import(casesUrl) as CaseModule;
  const kernels: KernelVerdict[] = [], seen = new Set<string>();
  const compile = async (title: string, run: ModelCase, options: GpuOptions) => {
    const created: Created[] = [];
    using gpu = await Gpu.request(options);
    watch(gpu.context.device, `${folder}/${name}`, created);
    try {
      gpu.scope(() => run(gpu));
      await gpu.finished();
    } catch (error) {
      console.error(`${title}: ${(error as Error).message}`);
    }
    for (const pipeline of created) {
      const { kernel, wgsl, file } = pipeline;
      if (seen.has(wgsl)) continue;
      seen.add(wgsl);
      const text = await Deno.readTextFile(file);
      const slug = `${title} ${kernel}`.replaceAll(/[^\p{L}\d]+/gu, "_");
      await writeText(`${folder}/${name}/${slug}-${kernels.length}.txt`, `${wgsl}\n${text}`);
      kernels.push(verdictOf(title, pipeline, { gpu: name, text }));
    }
  };
  const chosen = (all: Readonly<Record<string, ModelCase>>) =>
    Object.entries(all).filter(([title]) => new RegExp(pattern).test(title));
  for (const [title, run] of chosen(cases)) await compile(title, run, {});
  for (const [title, run] of chosen(f16Cases)) await compile(title, run, { arithmetic: "f16" });
  const onMatrices = chosen(matrixCases);
  const options = onMatrices.length > 0 ? await matrixOptions(name) : undefined;
  if (options) { for (const [title, run] of onMatrices) await compile(title, run, options); }
  console.log(JSON.stringify(kernels));
}

if (import.meta.main) {
  await main(Deno.args);
  Deno.exit(0); // wgpu's threads keep waiting for the null device
}
