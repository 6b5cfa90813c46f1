/**
 * The report of a bench run: its JSON form, shares of the ceiling, tables, and the comparison with
 * another run. Needs neither a device nor a clock.
 *
 * @module
 */
import type { Ceiling } from "../measure/ceiling.ts";
import type { PeerTask } from "../cases/task.ts";

/** The device and what it can do. */
export interface DeviceRecord {
  /** The adapter's description. */
  readonly name: string;
  readonly deviceClass: string;
  readonly isFallbackAdapter: boolean;
  readonly subgroupSize: number;
  readonly features: readonly string[];
  /** Deno's version, which determines the WebGPU implementation. */
  readonly runtime: string;
  readonly system: string;
  /** Start of the run, ISO 8601. */
  readonly date: string;
  readonly ceiling: Ceiling;
}

/** One kernel at one size. */
export interface KernelRecord {
  readonly kernel: string;
  readonly shape: string;
  readonly ms: number;
  readonly gflops: number;
  readonly gbps: number;
  /**
   * Share of the ceiling, 0…1: the larger of the arithmetic and the bandwidth share. Above 1 where
   * caches beat the copy.
   */
  readonly share: number;
  /** The same work for other engines. */
  readonly task?: PeerTask;
  /** Number of occurrences in a guided step of Stable Diffusion 1.4 at 512². */
  readonly perStep?: number;
  /** Times of other engines for the same work in the same run. */
  readonly peers?: Readonly<Record<string, { readonly ms: number }>>;
  /** Engines that failed or computed another result, with their messages. */
  readonly unable?: Readonly<Record<string, string>>;
}

/** An end-to-end stage. */
export interface StageRecord {
  readonly stage: string;
  readonly ms: number;
  /** Peak bytes in tensors beyond those that existed before. */
  readonly bytes?: number;
}

/** The compile cost of one pipeline of a model. */
export interface CompiledVariant {
  /** The component that uses it first. */
  readonly part: string;
  readonly kernel: string;
  /** Constants and storage dtypes. */
  readonly variant: string;
  /** Number of distinct parameter sets that it runs with. */
  readonly parameters: number;
  /** Time to create the pipeline. */
  readonly createMs: number;
  /** Extra time of the first runs over the second ones. */
  readonly firstRunMs: number;
}

/** The compile cost of all pipelines of a model. */
export interface CompilationRecord {
  readonly device: string;
  readonly model: string;
  readonly pipelines: number;
  readonly createMs: number;
  /** As the whole took longer the first time, not as the sum of the single ones. */
  readonly firstRunMs: number;
  /** Time to compile everything on all cores, as drawing does, where this was measured. */
  readonly aheadMs?: number;
  /** Most expensive first. */
  readonly variants: readonly CompiledVariant[];
}

/** A target and the verdict of a run. */
export interface TargetRecord {
  readonly target: string;
  readonly demanded: string;
  /** The measurement as text, or the reason why it is missing. */
  readonly measured: string;
  readonly verdict: "met" | "missed" | "not measured";
}

/** A guided step of a full-size UNet. */
export interface FullSizeRecord {
  /** Side of the picture. */
  readonly pixels: number;
  /** The storage dtype of the UNet's activations, where it is not f32. */
  readonly activations?: "f16";
  readonly ms: number;
  /** Number of timed batches; the figure is the minimum. */
  readonly batches: number;
  readonly loadMs: number;
  readonly weightsBytes: number;
  /**
   * Peak bytes in tensors, and in all buffers with those kept for reuse. Both include the weights.
   */
  readonly peakBytes: number;
  readonly peakReservedBytes: number;
  /**
   * PyTorch's times in the same run (or those of our f32 activations), and ‖ours − theirs‖ /
   * ‖theirs‖ of the noise.
   */
  readonly peers?: Readonly<Record<string, { readonly ms: number; readonly difference: number }>>;
}

/** A run, as `--json` writes it. */
export interface BenchReport {
  readonly device: DeviceRecord;
  readonly kernels: readonly KernelRecord[];
  readonly stages: readonly StageRecord[];
  /** Compile cost of the full-size model. */
  readonly compilation?: CompilationRecord;
  readonly fullSize?: readonly FullSizeRecord[];
  readonly targets?: readonly TargetRecord[];
}

/** The rates of a kernel and its share of the ceiling. `real` selects the arithmetic ceiling. */
export function kernelRecord(
  { kernel, shape, ms, cost, real = "f32" }: {
    kernel: string;
    shape: string;
    ms: number;
    cost: { flops: number; bytes: number };
    real?: "f32" | "f64";
  },
  ceiling: Ceiling,
): KernelRecord {
  const gflops = cost.flops / ms / 1e6, gbps = cost.bytes / ms / 1e6;
  const peak = real === "f64" ? ceiling.gflopsF64 ?? ceiling.gflops : ceiling.gflops;
  return { kernel, shape, ms, gflops, gbps, share: Math.max(gflops / peak, gbps / ceiling.gbps) };
}

/**
 * Parses the output of `--json`.
 *
 * @throws {TypeError} when the text is not a bench report
 */
export function parseReport(text: string, name: string): BenchReport {
  const report = JSON.parse(text) as Partial<BenchReport> | null;
  const isNumber = (value: unknown) => typeof value === "number";
  const fits = report !== null && typeof report === "object" && typeof report.device === "object" &&
    Array.isArray(report.kernels) && Array.isArray(report.stages) &&
    report.kernels.every(({ kernel, shape, ms }) =>
      typeof kernel === "string" && typeof shape === "string" && isNumber(ms)
    ) &&
    report.stages.every(({ stage, ms }) => typeof stage === "string" && isNumber(ms));
  if (!fits) {
    throw new TypeError(
      `Cannot compare with ${name} as it is no report of this bench: it must hold device, kernels and stages`,
    );
  }
  return report as BenchReport;
}

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

const kernelWidth = 20, shapeWidth = 34;

/** The header of the kernel table. */
export function kernelHead(): string {
  return "kernel".padEnd(kernelWidth) + "shape".padEnd(shapeWidth) +
    ["a step", "ms", "GFLOPS", "GB/s", "ceiling"].map((word) => word.padStart(9)).join("");
}

/** A row of the kernel table. Peers follow with their time relative to ours. */
export function kernelLine(record: KernelRecord, remarks: readonly string[] = []): string {
  const { kernel, shape, ms, gflops, gbps, share, perStep, peers = {} } = record;
  const line = kernel.padEnd(kernelWidth) + shape.padEnd(shapeWidth) + (perStep ? `${perStep}` : "").padStart(9) +
    [digits(ms), digits(gflops), digits(gbps), percent(share)].map((word) => word.padStart(9)).join("");
  const others = Object.entries(peers).map(([name, peer]) => `${name} ${digits(peer.ms)} ms (${ratio(peer.ms / ms)})`);
  return [line, ...others, ...remarks].join("   ");
}

/** A line of the stage list. */
export function stageLine({ stage, ms, bytes }: StageRecord): string {
  const memory = bytes === undefined ? "" : `, at most ${digits(bytes / 2 ** 20)} MiB beside the weights`;
  return stage.padEnd(kernelWidth + shapeWidth) + digits(ms).padStart(9) + " ms" + memory;
}

/** Time to create a pipeline and to run it for the first time. */
export function compileMs({ createMs, firstRunMs }: { createMs: number; firstRunMs: number }): number {
  return createMs + firstRunMs;
}

function stepName({ pixels, activations }: Pick<FullSizeRecord, "pixels" | "activations">): string {
  return `guided step of a full-size UNet, ${pixels}²${activations ? `, activations in ${activations}` : ""}`;
}

/** A full-size step as text: its time beside other engines, and its memory. */
export function fullSizeText(record: FullSizeRecord): string {
  const { ms, batches, weightsBytes, peakBytes, peakReservedBytes, peers = {} } = record;
  const seconds = (ms: number) => `${digits(ms / 1000)} s (${digits(1000 / ms)} steps a second)`;
  const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
  return [
    `${stepName(record)}: ${seconds(ms)}, the best of ${batches}`,
    ...Object.entries(peers).map(([name, peer]) =>
      `  ${name}: ${seconds(peer.ms)}; ours takes ${digits(ms / peer.ms)} times as long; the noise differs by ${
        peer.difference.toExponential(1)
      } of its norm`
    ),
    `  memory: ${mebibytes(weightsBytes)} of weights, at most ${mebibytes(peakBytes - weightsBytes)} beside them (${
      mebibytes(peakReservedBytes - weightsBytes)
    } with buffers kept for reuse)`,
  ].join("\n");
}

/**
 * The total time of the matrix products, convolutions and attentions of a guided step, by kernel.
 * Empty unless all of them were measured.
 */
export function stepText(kernels: readonly KernelRecord[]): string {
  const sums = new Map<string, number>();
  for (const { kernel, ms, perStep = 0 } of kernels) sums.set(kernel, (sums.get(kernel) ?? 0) + perStep * ms);
  const parts = [...sums].filter(([, ms]) => ms > 0).sort(([, a], [, b]) => b - a);
  const total = parts.reduce((sum, [, ms]) => sum + ms, 0);
  return `A guided step of Stable Diffusion 1.4 at 512² by these times: ${digits(total / 1000)} s: ` +
    parts.map(([kernel, ms]) => `${kernel} ${digits(ms / 1000)} s`).join(", ");
}

/** Compile cost as text: in total, by component, and of the most expensive pipelines. */
export function compilationText(record: CompilationRecord, options: { dearest?: number } = {}): string {
  const { model, pipelines, createMs, firstRunMs, aheadMs, variants } = record;
  const { dearest = 10 } = options;
  const line = (ms: number, text: string) => `  ${digits(ms).padStart(7)} ms  ${text}`;
  const sum = (group: readonly CompiledVariant[]) => group.reduce((total, each) => total + compileMs(each), 0);
  return [
    `${pipelines} pipelines of ${model}: ${digits(compileMs(record) / 1000)} s, of which ${
      digits(createMs / 1000)
    } s creating them and ${digits(firstRunMs / 1000)} s in their first runs`,
    ...(aheadMs === undefined
      ? []
      : [`  as drawing and editing have them compiled, on all cores: ${digits(aheadMs / 1000)} s`]),
    ...[...Map.groupBy(variants, ({ part }) => part)].map(([part, group]) =>
      line(sum(group), `${part}: ${group.length} that nothing before it wanted`)
    ),
    `The dearest:`,
    ...variants.slice(0, dearest).map((each) =>
      line(compileMs(each), `${each.part}: ${each.kernel} ${each.variant} (${each.parameters} sets of parameters)`)
    ),
  ].join("\n");
}

function ratio(value: number): string {
  return `×${digits(value)}`;
}

/** A peer's result over all shapes that it supports. */
export interface PeerSummary {
  readonly peer: string;
  readonly shapes: number;
  /** Geometric mean of its time divided by ours. */
  readonly meanRatio: number;
  /** The shape with the lowest ratio. */
  readonly worst: { readonly kernel: string; readonly shape: string; readonly ratio: number };
}

/** Summarizes the peers over all kernels. */
export function summarizePeers(kernels: readonly KernelRecord[]): PeerSummary[] {
  const rows = kernels.flatMap(({ kernel, shape, ms, peers = {} }) =>
    Object.entries(peers).map(([peer, { ms: peerMs }]) => ({ peer, kernel, shape, ratio: peerMs / ms }))
  );
  return [...Map.groupBy(rows, ({ peer }) => peer)].map(([peer, group]) => ({
    peer,
    shapes: group.length,
    meanRatio: Math.exp(group.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / group.length),
    worst: group.reduce((least, row) => row.ratio < least.ratio ? row : least),
  }));
}

/** A change between two runs. */
export interface Change {
  readonly name: string;
  readonly beforeMs: number;
  readonly afterMs: number;
  /** New time divided by old: below 1 is faster. */
  readonly ratio: number;
}

/** The common entries of two runs, and the entries of only one. */
export interface Comparison {
  readonly changes: readonly Change[];
  readonly added: readonly string[];
  readonly missing: readonly string[];
}

/**
 * Matches two runs by kernel and shape, and by stage. The largest changes come first, gains and
 * losses alike.
 */
export function compareReports(before: BenchReport, after: BenchReport): Comparison {
  const times = ({ kernels, stages, fullSize = [] }: BenchReport) =>
    new Map([
      ...kernels.map(({ kernel, shape, ms }) => [`${kernel} ${shape}`, ms] as const),
      ...stages.map(({ stage, ms }) => [stage, ms] as const),
      ...fullSize.map((step) => [stepName(step), step.ms] as const),
    ]);
  const old = times(before), now = times(after);
  const changes = [...now].filter(([name]) => old.has(name)).map(([name, afterMs]) => ({
    name,
    beforeMs: old.get(name)!,
    afterMs,
    ratio: afterMs / old.get(name)!,
  }));
  return {
    changes: changes.sort((a, b) => Math.abs(Math.log(b.ratio)) - Math.abs(Math.log(a.ratio))),
    added: [...now.keys()].filter((name) => !old.has(name)),
    missing: [...old.keys()].filter((name) => !now.has(name)),
  };
}

/**
 * A comparison as text: a line per common entry with the ratio new / old, then a summary line with
 * the number of common entries, the geometric mean of the ratios, the worst ratio, and the number
 * of slower entries. An entry whose ratio exceeds `1 + tolerance` is marked `slower`.
 */
export function comparisonText(
  { changes, added, missing }: Comparison,
  options: { beforeName: string; tolerance?: number },
): string {
  const { beforeName, tolerance = 0.05 } = options;
  const isSlower = ({ ratio }: Change) => ratio > 1 + tolerance;
  return [
    `Compared with ${beforeName} (ratio of times, new / old)`,
    ...changes.map((change) =>
      `  ${change.name.padEnd(kernelWidth + shapeWidth)}${digits(change.beforeMs).padStart(9)} → ${
        digits(change.afterMs).padStart(9)
      } ms  ${ratio(change.ratio)}${isSlower(change) ? "  slower" : ""}`
    ),
    ...(added.length > 0 ? [`  only in the new run: ${some(added)}`] : []),
    ...(missing.length > 0 ? [`  only in the old run: ${some(missing)}`] : []),
    comparisonSummary(changes, changes.filter(isSlower).length, tolerance),
  ].join("\n");
}

function comparisonSummary(changes: readonly Change[], slower: number, tolerance: number): string {
  if (changes.length === 0) return "0 entries in common";
  const mean = Math.exp(changes.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / changes.length);
  const worst = changes.reduce((most, change) => change.ratio > most.ratio ? change : most);
  return `${changes.length} entries in common, geometric mean ${ratio(mean)}, worst ${ratio(worst.ratio)} ` +
    `(${worst.name}), ${slower} slower by more than ${percent(tolerance)}`;
}

/** The first few names: a filtered run lacks most entries of a full one. */
function some(names: readonly string[]): string {
  const shown = 6;
  return names.slice(0, shown).join("; ") + (names.length > shown ? ` and ${names.length - shown} more` : "");
}
