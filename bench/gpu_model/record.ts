/**
 * The record of a run of the static GPU model: its JSON form, its table, and the comparison with
 * another run.
 *
 * @module
 */
import { type Comparison, comparisonText, matched } from "../report/comparison.ts";
import type { ModeledGpus } from "../report/gpu_model.ts";
import type { Load } from "./load.ts";
import type { Verdict } from "./verdict.ts";

/** All that the model says of one kernel of a case. */
export interface KernelVerdict extends Verdict {
  readonly case: string;
  readonly kernel: string;
  /** Lanes per wave. */
  readonly wave: number;
  /** Vector registers per lane. */
  readonly registers: number;
  /** Vector registers that did not fit, and bytes of memory that took their place. */
  readonly spilled: number;
  readonly scratchBytes: number;
  /** Workgroup memory, in bytes. */
  readonly ldsBytes: number;
  readonly codeBytes: number;
}

/** The kernels on one GPU. */
export interface GpuVerdicts {
  /** RADV's name, such as navi21. */
  readonly gpu: string;
  readonly kernels: readonly KernelVerdict[];
}

/** A run, as `--json` writes it and `parseGpuModel` of report/gpu_model.ts reads it. */
export interface GpuModelRecord {
  /** The package that holds RADV. */
  readonly compiler: string;
  /** Deno's version, which determines the WebGPU implementation. */
  readonly runtime: string;
  /** Start of the run, ISO 8601. */
  readonly date: string;
  readonly gpus: readonly GpuVerdicts[];
}

const percent = (share: number) => `${Math.round(100 * share)} %`;
const ratio = (a: number, b: number) => b === 0 ? "–" : (a / b).toFixed(2);

/** Cycles that bank conflicts add to those of LDS, and the accesses of which that is not known. */
function conflictsText({ shared, conflicts, sharedAccesses, unknownAccesses }: Load): string {
  if (sharedAccesses === 0) return "–";
  return `+${percent(conflicts / shared)}` +
    (unknownAccesses > 0 ? ` (${unknownAccesses} of ${sharedAccesses} unknown)` : "");
}

const columns: readonly (readonly [title: string, cell: (kernel: KernelVerdict) => string])[] = [
  ["case", (kernel) => kernel.case],
  ["kernel", ({ kernel }) => kernel],
  ["wave", ({ wave }) => `${wave}`],
  ["VGPR", ({ registers }) => `${registers}`],
  ["LDS", ({ ldsBytes }) => `${ldsBytes}`],
  ["waves", ({ waves }) => `${Math.round(10 * waves) / 10}`],
  ["spill", ({ spilled, scratchBytes }) => spilled + scratchBytes === 0 ? "–" : `${spilled} + ${scratchBytes} B`],
  ["code", ({ codeBytes }) => `${codeBytes}`],
  ["FMA/turn", ({ load }) => `${load.fma}`],
  ["FMA:all", ({ load }) => percent(load.fmaInstructions / load.instructions)],
  ["FMA:VALU", ({ load }) => percent(load.fmaCycles / load.valu)],
  ["int/FMA", ({ load }) => ratio(load.integers, load.fma)],
  ["clamps", ({ load }) => `${load.clamps}`],
  ["LDS/FMA", ({ load }) => ratio(load.sharedReads, load.fma)],
  ["load/FMA", ({ load }) => ratio(load.vectorLoads, load.fma)],
  ["waits", ({ load }) => `${load.waits}`],
  ["FMA/barrier", ({ load }) => load.barriers === 0 ? "–" : `${Math.round(load.fma / load.barriers)}`],
  ["conflicts", ({ load }) => conflictsText(load)],
  ["groups", ({ groups }) => `${groups}`],
  ["loop B", ({ loopBytes }) => `${loopBytes}`],
  ["bound", ({ bound }) => bound],
  ["hidden", ({ hidden }) => percent(hidden)],
  ["reach", ({ reach }) => percent(reach)],
  ["sustained", ({ sustained }) => percent(sustained)],
  ["limit", ({ limit }) => limit],
  ["f32 peaks", ({ f32Peaks }) => f32Peaks.toFixed(2)],
  ["traffic", ({ traffic }) => traffic.toFixed(1)],
  ["loop", ({ loop }) => loop],
];
/** The first columns hold words, the others numbers. */
const wordColumns = 2;

/** The table of one GPU. */
export function modelText({ gpu, kernels }: GpuVerdicts): string {
  const rows = [columns.map(([title]) => title), ...kernels.map((kernel) => columns.map(([, cell]) => cell(kernel)))];
  const widths = columns.map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const line = (row: string[]) =>
    row.map((cell, i) => i < wordColumns ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ");
  return [gpu, ...rows.map(line)].join("\n");
}

/**
 * Matches two runs by GPU, case and kernel. The compared value is the modeled time, as a multiple
 * of the time of the fma alone at the GPU's peak: 1 / sustained, or 1 / reach where a record is
 * older than `sustained`.
 */
export function compareModels(before: ModeledGpus, after: ModeledGpus): Comparison {
  const all = [before, after].flatMap(({ gpus }) => gpus.flatMap(({ kernels }) => kernels));
  const share = all.every(({ sustained }) => sustained !== undefined) ? "sustained" : "reach";
  return matched(times(before, share), times(after, share));
}

function times({ gpus }: ModeledGpus, share: "sustained" | "reach"): Map<string, number> {
  const values = new Map<string, number>();
  for (const { gpu, kernels } of gpus) {
    const seen = new Map<string, number>();
    for (const { case: name, kernel, [share]: value = 0 } of kernels) {
      if (!(value > 0)) continue; // kernels without fma
      const key = `${gpu}, ${name}, ${kernel}`, count = (seen.get(key) ?? 0) + 1;
      seen.set(key, count);
      values.set(count === 1 ? key : `${key} (${count})`, 1 / value);
    }
  }
  return values;
}

/** {@linkcode compareModels} as text. */
export function modelComparisonText(comparison: Comparison, beforeName: string): string {
  return comparisonText(comparison, {
    beforeName,
    tolerance: 0.01,
    quantity: "modeled times, in times at the fma peak",
    unit: "",
  });
}
