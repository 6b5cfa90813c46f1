/**
 * The results of a bench run as text.
 *
 * @module
 */
import { countText } from "../../engine/inspect.ts";
import type { Ceiling } from "../measure/ceiling.ts";
import {
  type CompilationRecord,
  type CompiledVariant,
  compileMs,
  type DeviceRecord,
  type FullSizeRecord,
  type KernelRecord,
  leastDispatchShare,
  mostDispatchShare,
  netShare,
  type PeerSummary,
  type StageRecord,
} from "./report.ts";

/** A number with three significant digits: 0.0123, 1.23, 12.3, 123, 1234. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const places = 2 - Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(4, Math.max(0, places)));
}

/** A share in percent. */
export function percent(share: number): string {
  return `${digits(100 * share)} %`;
}

const kernelWidth = 20, shapeWidth = 32;
/** Columns of a name at the beginning of a line. */
export const nameWidth: number = kernelWidth + shapeWidth;

/** The columns of numbers in the kernel table. The whole table is 100 characters wide. */
const kernelColumns: readonly (readonly [title: string, width: number, cell: (record: KernelRecord) => string])[] = [
  ["per step", 9, ({ perStep }) => perStep ? `${perStep}` : ""],
  ["ms", 8, ({ ms }) => digits(ms)],
  ["GFLOPS", 8, ({ gflops }) => digits(gflops)],
  ["GB/s", 7, ({ gbps }) => digits(gbps)],
  ["ceiling", 8, ({ share }) => percent(share)],
  ["net", 8, netText],
];

/** The header of the kernel table. */
export function kernelHead(): string {
  return "kernel".padEnd(kernelWidth) + "shape".padEnd(shapeWidth) +
    kernelColumns.map(([title, width]) => title.padStart(width)).join("");
}

/** A row of the kernel table. Peers follow with their time relative to ours. */
export function kernelLine(record: KernelRecord, remarks: readonly string[] = []): string {
  const { kernel, shape, ms, peers = {} } = record;
  const numbers = kernelColumns.map(([, width, cell]) => cell(record).padStart(width)).join("");
  const line = kernel.padEnd(kernelWidth) + shape.padEnd(shapeWidth) + numbers;
  const others = Object.entries(peers).map(([name, peer]) => `${name} ${digits(peer.ms)} ms (${ratio(peer.ms / ms)})`);
  return [line, ...others, ...remarks].join("   ").trimEnd();
}

/** The share of the ceiling without empty dispatches; see {@linkcode netNote}. */
export function netText(record: KernelRecord): string {
  const share = netShare(record);
  return share === undefined ? "" : Number.isNaN(share) ? "–" : percent(share);
}

/** What the column of {@linkcode netText} means. */
export const netNote = `net: share without the time of empty dispatches, where that is ${
  100 * leastDispatchShare
} % or more (–: more than ${100 * mostDispatchShare} %)`;

/** A line of the stage list. */
export function stageLine({ stage, ms, bytes }: StageRecord): string {
  const memory = bytes === undefined ? "" : `, at most ${digits(bytes / 2 ** 20)} MiB besides the weights`;
  return stage.padEnd(kernelWidth + shapeWidth) + digits(ms).padStart(9) + " ms" + memory;
}

/** The limits of the device, one line each. */
export function ceilingText(ceiling: Ceiling): string {
  const { gflops, gflopsF64, gbps, bufferGbps } = ceiling;
  const f64 = gflopsF64 === undefined ? "" : `, ${digits(gflopsF64)} in f64 (${percent(gflopsF64 / gflops)})`;
  return `ceiling: ${digits(gflops)} GFLOPS in f32${f64}; ${digits(gbps)} GB/s by a kernel, ${
    digits(bufferGbps)
  } GB/s by buffer copies` + (ceiling.dispatchMs === undefined ? "" : `\n${dispatchText(ceiling)}`);
}

/** The fixed cost of a dispatch, and the arithmetic that takes as long. */
export function dispatchText({ gflops, dispatchMs = NaN }: Ceiling): string {
  return `an empty dispatch takes ${digits(1000 * dispatchMs)} µs, as long as ${
    digits(dispatchMs * gflops / 4)
  } MFLOP at a quarter of the ceiling`;
}

/** What the times of kernels are. */
export function timesText({ times, runs, system }: Pick<DeviceRecord, "times" | "runs" | "system">): string {
  const threads = /\d+ threads?/.exec(system)?.[0] ?? "threads";
  return `times: ${
    times === undefined ? "by the clock" : `processor time of this process, divided by the machine's ${threads}`
  }, ${runs === "replayed" ? "of replayed programs" : "recording included"}`;
}

/** A device and its limits. */
export function deviceText(device: DeviceRecord): string {
  return [device.name, timesText(device), ceilingText(device.ceiling)].join("\n");
}

/** A peer's result over all shapes, as one line. */
export function peerText({ peer, shapes, meanRatio, worst }: PeerSummary): string {
  return `${peer}: ${digits(meanRatio)} times our time over ${countText(shapes, "shape")} (geometric mean); ` +
    `at its best ${digits(worst.ratio)} times, at ${worst.kernel} ${worst.shape}`;
}

/** The name of a full-size step. */
export function stepName(
  { model, pixels, activations }: Pick<FullSizeRecord, "model" | "pixels" | "activations">,
): string {
  return `guided step of a full-size UNet${model ? ` of ${model}` : ""}, ${pixels}²${
    activations ? `, activations in ${activations}` : ""
  }`;
}

/** A full-size step as text: its time beside other engines, and its memory. */
export function fullSizeText(record: FullSizeRecord): string {
  const { ms, batches, weightsBytes, peakBytes, peakReservedBytes, peers = {} } = record;
  const seconds = (ms: number) => `${digits(ms / 1000)} s (${digits(1000 / ms)} steps a second)`;
  const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
  return [
    `${stepName(record)}: ${seconds(ms)}, minimum of ${batches}`,
    ...Object.entries(peers).map(([name, peer]) =>
      `  ${name}: ${seconds(peer.ms)}; our time is ${digits(ms / peer.ms)} times that${
        peer.difference === undefined
          ? ""
          : `; the predicted noise differs by ${peer.difference.toExponential(1)} of its norm`
      }`
    ),
    `  memory: ${mebibytes(weightsBytes)} of weights, at most ${mebibytes(peakBytes - weightsBytes)} besides (${
      mebibytes(peakReservedBytes - weightsBytes)
    } with buffers kept for reuse)`,
  ].join("\n");
}

/**
 * The total time of the matrix products, convolutions and attentions of a guided step, and their
 * sums by kernel. Meaningful only when all of them were measured.
 */
export function stepText(kernels: readonly KernelRecord[]): string {
  const sums = new Map<string, number>();
  for (const { kernel, ms, perStep = 0 } of kernels) sums.set(kernel, (sums.get(kernel) ?? 0) + perStep * ms);
  const parts = [...sums].filter(([, ms]) => ms > 0).sort(([, a], [, b]) => b - a);
  const total = parts.reduce((sum, [, ms]) => sum + ms, 0);
  return `Sum of these times over a guided step of Stable Diffusion 1.4 at 512²: ${digits(total / 1000)} s: ` +
    parts.map(([kernel, ms]) => `${kernel} ${digits(ms / 1000)} s`).join(", ");
}

/** Compile cost as text: in total, by component, and of the most expensive pipelines. */
export function compilationText(record: CompilationRecord, options: { shown?: number } = {}): string {
  const { model, pipelines, createMs, firstRunMs, aheadMs, variants } = record;
  const { shown = 10 } = options;
  const line = (ms: number, text: string) => `  ${digits(ms).padStart(7)} ms  ${text}`;
  const sum = (group: readonly CompiledVariant[]) => group.reduce((total, each) => total + compileMs(each), 0);
  return [
    `${countText(pipelines, "pipeline")} of ${model}: ${digits(compileMs(record) / 1000)} s, of which ${
      digits(createMs / 1000)
    } s for creating them and ${digits(firstRunMs / 1000)} s for their first runs`,
    ...(aheadMs === undefined
      ? []
      : [`  compiled ahead on all cores, as generating and editing do: ${digits(aheadMs / 1000)} s`]),
    ...[...Map.groupBy(variants, ({ part }) => part)].map(([part, group]) =>
      line(sum(group), `${part}: ${countText(group.length, "pipeline")} that no earlier part uses`)
    ),
    `Most expensive:`,
    ...variants.slice(0, shown).map((each) =>
      line(compileMs(each), `${each.part}: ${each.kernel} ${each.variant} (${each.parameters} parameter sets)`)
    ),
  ].join("\n");
}

/** A ratio of times, as in ×1.05. */
export function ratio(value: number): string {
  return `×${digits(value)}`;
}

/** The family of a kernel or operation: "conv2d 3×3" and "conv2d 1×1" belong to "conv2d". */
export function familyOf(name: string): string {
  return name.split(/[ ,]/)[0];
}
