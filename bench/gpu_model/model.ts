/**
 * Compiles the kernels for AMD GPUs that are not there, and models how busy their units are. How it
 * works, and what it does not know: docs/gpu.md.
 *
 * @module
 */
import { environmentVariable, userCacheFolder } from "../../pipeline/environment.ts";
import { disk } from "../../pipeline/output/disk.ts";
import type { CaseModule } from "./compile_cases.ts";
import type { GpuModelRecord, GpuVerdicts, KernelVerdict } from "./record.ts";

const here = new URL(".", import.meta.url).pathname;

/** A requirement of the GPU model is missing, or a module of cases cannot be used. */
export class GpuModelError extends Error {
  override name = "GpuModelError";
}

/** Unpacks Mesa and compiles the null driver where that has not been done yet. */
async function prepare(work: string): Promise<void> {
  const { code, stderr, stdout } = await new Deno.Command("bash", { args: [`${here}prepare.sh`, work] }).output();
  if (code === 0) return;
  const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trim());
  throw new GpuModelError(
    `Cannot prepare the GPU model in ${work}, which requires apt, dpkg and gcc on x86-64 Linux. ` +
      `prepare.sh ended with code ${code}:\n${out.split("\n").slice(-5).join("\n")}\n${error}`,
  );
}

/** Compiles the cases in a process of its own, whose Vulkan driver is the null driver. */
async function compileFor(
  gpu: string,
  { work, pattern, casesUrl, note }: ModelledCases & { readonly work: string },
): Promise<GpuVerdicts> {
  const library = `${work}/mesa/usr/lib/x86_64-linux-gnu`, capture = `${work}/capture`;
  await disk.remove(`${capture}/${gpu}`, { recursive: true }).catch(() => {});
  await disk.mkdir(`${capture}/${gpu}`);
  const script = ["run", "-q", "-A", "--no-check", "--no-lock", `${here}compile_cases.ts`];
  // Mesa is newer than the system's C library may be, so Deno runs on the one that came with it.
  const { code, stdout, stderr } = await new Deno.Command(`${library}/ld-linux-x86-64.so.2`, {
    args: ["--library-path", library, Deno.execPath(), ...script, gpu, capture, pattern, casesUrl],
    env: {
      RADV_LIBRARY: `${library}/libvulkan_radeon.so`,
      RADV_FORCE_FAMILY: gpu,
      RADV_CAPTURE: `${capture}/${gpu}`,
      VK_DRIVER_FILES: `${work}/icd.json`,
      MESA_SHADER_CACHE_DISABLE: "true",
      XDG_RUNTIME_DIR: environmentVariable("XDG_RUNTIME_DIR") ?? "/tmp",
    },
  }).output();
  const [text, messages] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  const problems = messages.split("\n").filter((line) => line && !/pci bus info|not a conformant/.test(line));
  if (problems.length > 0) note(`${gpu}: ${problems.join("\n")}`);
  if (code !== 0) throw new GpuModelError(`Cannot compile the cases for ${gpu}: the process ended with code ${code}`);
  return { gpu, kernels: JSON.parse(text) as KernelVerdict[] };
}

/** The cases of this project. */
export const defaultCases: string = new URL("cases.ts", import.meta.url).href;

/** The names of the cases in a module. @throws {GpuModelError} when it is no such module */
export async function caseNames(casesUrl: string): Promise<string[]> {
  let module: Partial<CaseModule>;
  try {
    module = await import(casesUrl);
  } catch (error) {
    throw new GpuModelError(`Cannot load the cases of ${casesUrl} as ${(error as Error).message}`, { cause: error });
  }
  if (typeof module.cases !== "object" || module.cases === null) {
    throw new GpuModelError(
      `Cannot use the cases of ${casesUrl} as it must export cases: see bench/gpu_model/cases.ts`,
    );
  }
  return [module.cases, module.f16Cases ?? {}, module.matrixCases ?? {}].flatMap(Object.keys);
}

/** What {@linkcode modelKernels} compiles. */
export interface ModelledCases {
  /** RADV's names. */
  readonly gpus: readonly string[];
  /** A regular expression for names of cases. */
  readonly pattern: string;
  readonly casesUrl: string;
  /** Receives what the compilers say of problems. */
  readonly note: (text: string) => void;
}

/**
 * Compiles cases for GPUs, one process each. Returns the record, and the folder that holds WGSL,
 * statistics, NIR and assembly of each kernel.
 *
 * @throws {GpuModelError} when something that it requires is missing, or a process fails
 */
export async function modelKernels(options: ModelledCases): Promise<{ record: GpuModelRecord; capture: string }> {
  const work = `${userCacheFolder()}/bluerose/gpu-model`, date = new Date().toISOString();
  await prepare(work);
  const record: GpuModelRecord = {
    compiler: (await Deno.readTextFile(`${work}/complete`)).trim(),
    runtime: `Deno ${Deno.version.deno}`,
    date,
    gpus: await Promise.all(options.gpus.map((gpu) => compileFor(gpu, { work, ...options }))),
  };
  return { record, capture: `${work}/capture/` };
}
