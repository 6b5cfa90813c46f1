/**
 * Compiles the kernels for AMD GPUs that are not there, and models how busy their units are.
 *
 *     deno task bench:gpu-model [CASES] [GPUS] [--cases FILE] [--json FILE] [--compare FILE]
 *
 * - CASES: a regular expression for the names of cases. Default: all.
 * - GPUS: names separated by commas. Default: navi21,navi31,vega20.
 * - `--cases FILE`: a module that exports `cases`, in place of cases.ts.
 * - `--json FILE`: writes the record.
 * - `--compare FILE`: compares with a record.
 *
 * How it works, and what it does not know: docs/gpu.md.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { disk } from "../../pipeline/output/disk.ts";
import { writeJson } from "../../pipeline/output/file.ts";
import { parseGpuModel } from "../report/gpu_model.ts";
import { BenchRecordError } from "../report/schema.ts";
import { architectures } from "./architecture.ts";
import {
  compareModels,
  type GpuModelRecord,
  type GpuVerdicts,
  type KernelVerdict,
  modelComparisonText,
  modelText,
} from "./record.ts";

const defaultGpus = "navi21,navi31,vega20";
const here = new URL(".", import.meta.url).pathname;

/** An error in the arguments, or a missing requirement: printed without a stack. */
class Refusal extends Error {}

/** Where Mesa is unpacked, and where the captured code lies. */
function workFolder(): string {
  const cache = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME") ?? "/tmp"}/.cache`;
  return `${cache}/bluerose/gpu-model`;
}

/** Unpacks Mesa and compiles the null driver where that has not been done yet. */
async function prepare(work: string): Promise<void> {
  const { code, stderr, stdout } = await new Deno.Command("bash", { args: [`${here}prepare.sh`, work] }).output();
  if (code === 0) return;
  const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trim());
  throw new Refusal(
    `Cannot prepare the GPU model in ${work}, which requires apt, dpkg and gcc on x86-64 Linux. ` +
      `prepare.sh ended with code ${code}:\n${out.split("\n").slice(-5).join("\n")}\n${error}`,
  );
}

/** Compiles the cases in a process of its own, whose Vulkan driver is the null driver. */
async function compileFor(
  gpu: string,
  { work, pattern, casesUrl }: { work: string; pattern: string; casesUrl: string },
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
      XDG_RUNTIME_DIR: Deno.env.get("XDG_RUNTIME_DIR") ?? "/tmp",
    },
  }).output();
  const [text, messages] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  const problems = messages.split("\n").filter((line) => line && !/pci bus info|not a conformant/.test(line));
  if (problems.length > 0) console.error(problems.join("\n"));
  if (code !== 0) throw new Refusal(`Cannot compile the cases for ${gpu}: the process ended with code ${code}`);
  return { gpu, kernels: JSON.parse(text) as KernelVerdict[] };
}

async function main(args: string[]): Promise<void> {
  const { _: positional, ...flags } = parseArgs(args, { string: ["cases", "json", "compare"] });
  const unknown = Object.keys(flags).find((name) => !["cases", "json", "compare"].includes(name));
  if (unknown) throw new Refusal(`Unknown flag --${unknown}: the flags are --cases, --json and --compare`);
  const [pattern = "", gpus = defaultGpus] = positional.map(String);
  const names: string[] = gpus.split(/[ ,]+/).filter((name: string) => name !== "");
  for (const name of names) {
    if (Object.hasOwn(architectures, name)) continue;
    throw new Refusal(`Unknown GPU ${name}: the model knows ${Object.keys(architectures).join(", ")}`);
  }
  const compare = flags.compare as string | undefined;
  const before = compare === undefined ? undefined : parseGpuModel(await Deno.readTextFile(compare), compare);
  const work = workFolder(), date = new Date().toISOString();
  await prepare(work);
  const casesUrl = new URL(flags.cases ?? `${here}cases.ts`, `file://${Deno.cwd()}/`).href;
  const record: GpuModelRecord = {
    compiler: (await Deno.readTextFile(`${work}/complete`)).trim(),
    runtime: `Deno ${Deno.version.deno}`,
    date,
    gpus: await Promise.all(names.map((gpu) => compileFor(gpu, { work, pattern, casesUrl }))),
  };
  console.log(record.gpus.map(modelText).join("\n\n"));
  console.log(`\nWGSL, statistics, NIR and assembly of each kernel: ${work}/capture/`);
  if (before) console.log(`\n${modelComparisonText(compareModels(before, record), compare!)}`);
  if (flags.json !== undefined) await writeJson(flags.json, record);
}

try {
  await main(Deno.args);
} catch (error) {
  const isExplained = [Refusal, BenchRecordError, TypeError, Deno.errors.NotFound].some((kind) =>
    error instanceof kind
  );
  if (!isExplained) throw error;
  console.error(`error: ${(error as Error).message}`);
  Deno.exit(1);
}
