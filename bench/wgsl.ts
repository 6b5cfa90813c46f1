/**
 * The WGSL of the kernels that cases of the bench run, laid out to be read; `deno task wgsl` prints
 * it. Nothing is computed, so every device can be asked about on every machine.
 *
 * @module
 */
import { type DeviceClass, Gpu, type GpuInfo } from "../engine/gpu.ts";
import { policyOf } from "../kernels/policy.ts";
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
  const { isSoftware } = policyOf(gpu);
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
