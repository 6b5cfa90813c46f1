/**
 * Prints the WGSL of the kernels that a case of the bench runs, laid out to be read:
 *
 *     deno task wgsl PATTERN [DEVICE]
 *
 * - PATTERN: a regular expression for kernel and shape, as for `bench --filter`.
 * - DEVICE: `here` (default), `nvidia`, `amd`, `apple`, `intel` or `other` for what the kernels are
 *   on such a GPU, `f16` for f16 arithmetic, `matrices` for subgroup matrices of 16 × 16 × 16.
 *
 * Nothing is computed, so every device can be asked about on every machine.
 *
 * @module
 */
import { type DeviceClass, Gpu, type GpuInfo } from "../engine/gpu.ts";
import { casesFor } from "./cases/cases.ts";

/** A kernel's text. */
export interface KernelText {
  /** The case that runs it first. */
  readonly shape: string;
  readonly kernel: string;
  readonly wgsl: string;
}

/** The kernels that the cases matching `pattern` run on a device, each variant once. */
export function kernelTexts(info: GpuInfo, pattern: RegExp): KernelText[] {
  using gpu = Gpu.null(info);
  const texts: KernelText[] = [];
  let current = "";
  const { device } = gpu.context;
  device.createShaderModule = ({ label = "", code }) => {
    texts.push({ shape: current, kernel: label, wgsl: code });
    return {} as GPUShaderModule;
  };
  const isSoftware = info.deviceClass === "software";
  for (const { kernel, shape, prepare } of casesFor({ filter: pattern, isSoftware, quick: false })) {
    current = `${kernel}, ${shape}`;
    gpu.scope(() => {
      using prepared = prepare(gpu);
      prepared.run();
    });
  }
  return texts;
}

/** The description of a device by its name on the command line; undefined for no such name. */
export function deviceNamed(name: string): GpuInfo | undefined {
  using typical = Gpu.null();
  const { info } = typical;
  const classes: readonly string[] = ["nvidia", "amd", "apple", "intel", "other"] satisfies DeviceClass[];
  if (classes.includes(name)) return { ...info, deviceClass: name as DeviceClass };
  if (name === "f16") return { ...info, deviceClass: "nvidia", arithmetic: "f16" };
  if (name !== "matrices") return undefined;
  const enables = new Set([...info.enables, "chromium_experimental_subgroup_matrix" as const]);
  return { ...info, deviceClass: "nvidia", enables, subgroupMatrix: { m: 16, n: 16, k: 16, lanes: 32 } };
}

/** WGSL with a line for each statement and declaration, indented by its blocks. */
export function laidOut(wgsl: string): string {
  const lines: string[] = [];
  let line = "", depth = 0, parentheses = 0;
  let isBeside = false; // whether the last line ended in the line of the text that is being read
  const end = () => {
    const words = line.trim().replace(/\s+/g, " ");
    if (words !== "") lines.push("  ".repeat(depth) + words);
    line = "";
  };
  for (const [token] of wgsl.matchAll(/\/\/[^\n]*|[(){};\n]|[^(){};\n/]+|\//g)) {
    if (token === "\n") {
      line += " ";
      isBeside = false;
    } else if (token.startsWith("//")) {
      if (isBeside && line.trim() === "") lines[lines.length - 1] += ` ${token}`;
      else {
        line += token;
        end();
      }
    } else {
      if (token === "(") parentheses++;
      if (token === ")") parentheses--;
      if (token === "}") {
        end();
        depth--;
      }
      if (/^\s*else\b/.test(token) && lines.at(-1)?.trim() === "}") line = lines.pop()!.trim();
      line += token;
      if (token === "{" || token === "}" || token === ";" && parentheses === 0) {
        end();
        isBeside = true;
      }
      if (token === "{") depth++;
    }
  }
  end();
  return lines.join("\n");
}

if (import.meta.main) {
  const [pattern, device = "here"] = Deno.args;
  const here = async () => {
    using gpu = await Gpu.request();
    return gpu.info;
  };
  const info = device === "here" ? await here() : deviceNamed(device);
  if (pattern === undefined || info === undefined) {
    console.error("deno task wgsl PATTERN [here | nvidia | amd | apple | intel | other | f16 | matrices]");
    Deno.exit(2);
  }
  const texts = kernelTexts(info, new RegExp(pattern));
  for (const { shape, kernel, wgsl } of texts) console.log(`// ${kernel}: first used by ${shape}\n${laidOut(wgsl)}\n`);
  if (texts.length === 0) {
    console.error(`No case matches ${pattern}. The cases are in bench/cases/cases.ts; an example is "matmul.*pocket".`);
    Deno.exit(1);
  }
}
