/**
 * What a bench run says: the JSON form, shares of the ceiling, tables, and what changed since
 * another run. No device and no clock here.
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
  /** Deno's version, which brings the WebGPU implementation. */
  readonly runtime: string;
  readonly system: string;
  /** When the run began, ISO 8601. */
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
   * Of the ceiling: the larger of arithmetic's and bandwidth's, 0…1 (above 1 where caches beat the
   * copy).
   */
  readonly share: number;
  /** The work itself, where other engines can do it too. */
  readonly task?: PeerTask;
  /** How often a guided step of Stable Diffusion 1.4 at 512² does it. */
  readonly perStep?: number;
  /** Others' times for the same work in the same run. */
  readonly peers?: Readonly<Record<string, { readonly ms: number }>>;
  /** Who of the others could not do it, or did something else, and what they said. */
  readonly unable?: Readonly<Record<string, string>>;
}

/** A stage of the whole. */
export interface StageRecord {
  readonly stage: string;
  readonly ms: number;
  /** Most bytes in tensors beside what was there before, where that is of interest. */
  readonly bytes?: number;
}

/** What one pipeline of a model cost until it ran. */
export interface CompiledVariant {
  /** The part of the model that wants it first. */
  readonly part: string;
  readonly kernel: string;
  /** Its constants and storage types. */
  readonly variant: string;
  /** With how many different parameters it runs. */
  readonly parameters: number;
  /** Creating the pipeline. */
  readonly createMs: number;
  /** What first runs take longer than second ones. */
  readonly firstRunMs: number;
}

/** What all pipelines of a model cost. */
export interface CompilationRecord {
  readonly device: string;
  readonly model: string;
  readonly pipelines: number;
  readonly createMs: number;
  /** As the whole took longer the first time, not as the sum of the single ones. */
  readonly firstRunMs: number;
  /**
   * How long a user waits for all of it, where the driver's compiling was measured as drawing asks
   * for it: on all cores.
   */
  readonly aheadMs?: number;
  /** Dearest first. */
  readonly variants: readonly CompiledVariant[];
}

/** What is demanded, and what this run says to it. */
export interface TargetRecord {
  readonly target: string;
  readonly demanded: string;
  /** In words; why it was not measured, where it was not. */
  readonly measured: string;
  readonly verdict: "met" | "missed" | "not measured";
}

/** A guided step of a full-size UNet. */
export interface FullSizeRecord {
  /** Of the picture's side. */
  readonly pixels: number;
  /** How the UNet's activations were stored, where that was not f32. */
  readonly activations?: "f16";
  readonly ms: number;
  /** How often it was timed: the figure is the least. */
  readonly batches: number;
  readonly loadMs: number;
  readonly weightsBytes: number;
  /**
   * Most bytes in tensors, and in buffers with those that are kept for reuse; both with the
   * weights.
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
  /** Of the full-size model. */
  readonly compilation?: CompilationRecord;
  readonly fullSize?: readonly FullSizeRecord[];
  readonly targets?: readonly TargetRecord[];
}

/**
 * A kernel's rates and its share of the ceiling. `real` says which arithmetic ceiling is its own.
 */
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
 * Reads what `--json` wrote.
 *
 * @throws {TypeError} when the text is no such report
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

/** A number in three digits: 0.0123, 1.23, 12.3, 123, 1234. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const places = 2 - Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(4, Math.max(0, places)));
}

/** A share as per cents. */
export function percent(share: number): string {
  return `${digits(100 * share)} %`;
}

const kernelWidth = 20, shapeWidth = 34;

/** The head of the table of kernels. */
export function kernelHead(): string {
  return "kernel".padEnd(kernelWidth) + "shape".padEnd(shapeWidth) +
    ["a step", "ms", "GFLOPS", "GB/s", "ceiling"].map((word) => word.padStart(9)).join("");
}

/** A line of the table of kernels; peers follow with how many times as long they took. */
export function kernelLine(record: KernelRecord, remarks: readonly string[] = []): string {
  const { kernel, shape, ms, gflops, gbps, share, perStep, peers = {} } = record;
  const line = kernel.padEnd(kernelWidth) + shape.padEnd(shapeWidth) + (perStep ? `${perStep}` : "").padStart(9) +
    [digits(ms), digits(gflops), digits(gbps), percent(share)].map((word) => word.padStart(9)).join("");
  const others = Object.entries(peers).map(([name, peer]) => `${name} ${digits(peer.ms)} ms (${ratio(peer.ms / ms)})`);
  return [line, ...others, ...remarks].join("   ");
}

/** A line of the stages. */
export function stageLine({ stage, ms, bytes }: StageRecord): string {
  const memory = bytes === undefined ? "" : `, at most ${digits(bytes / 2 ** 20)} MiB beside the weights`;
  return stage.padEnd(kernelWidth + shapeWidth) + digits(ms).padStart(9) + " ms" + memory;
}

/** Creating and running for the first time. */
export function compileMs({ createMs, firstRunMs }: { createMs: number; firstRunMs: number }): number {
  return createMs + firstRunMs;
}

function stepName({ pixels, activations }: Pick<FullSizeRecord, "pixels" | "activations">): string {
  return `guided step of a full-size UNet, ${pixels}²${activations ? `, activations in ${activations}` : ""}`;
}

/** A full-size step in words: its time beside others', and its memory. */
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
 * What the matrix products, convolutions and attentions of a guided step come to, by kernel, where
 * all of them were measured.
 */
export function stepText(kernels: readonly KernelRecord[]): string {
  const sums = new Map<string, number>();
  for (const { kernel, ms, perStep = 0 } of kernels) sums.set(kernel, (sums.get(kernel) ?? 0) + perStep * ms);
  const parts = [...sums].filter(([, ms]) => ms > 0).sort(([, a], [, b]) => b - a);
  const total = parts.reduce((sum, [, ms]) => sum + ms, 0);
  return `A guided step of Stable Diffusion 1.4 at 512² by these times: ${digits(total / 1000)} s: ` +
    parts.map(([kernel, ms]) => `${kernel} ${digits(ms / 1000)} s`).join(", ");
}

/** What compiling cost: all in all, by part of the model, and the dearest pipelines. */
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

/** What a peer amounts to over all shapes that it took. */
export interface PeerSummary {
  readonly peer: string;
  readonly shapes: number;
  /** Geometric mean of its time over ours. */
  readonly meanRatio: number;
  /** Where it comes closest, or is ahead. */
  readonly worst: { readonly kernel: string; readonly shape: string; readonly ratio: number };
}

/** Sums peers up over all kernels. */
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

/** One line of a comparison. */
export interface Change {
  readonly name: string;
  readonly beforeMs: number;
  readonly afterMs: number;
  /** New time over old: below 1 is faster. */
  readonly ratio: number;
}

/** What two runs have in common, and what only one has. */
export interface Comparison {
  readonly changes: readonly Change[];
  readonly added: readonly string[];
  readonly missing: readonly string[];
}

/**
 * Matches two runs by kernel and shape, and by stage. The largest changes come first, be they gains
 * or losses.
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
 * A comparison as text. Changes below `noise` (a ratio's distance from 1) are counted, not listed.
 */
export function comparisonText(
  { changes, added, missing }: Comparison,
  options: { beforeName: string; noise?: number },
): string {
  const { beforeName, noise = 0.05 } = options;
  const moved = changes.filter(({ ratio }) => Math.abs(Math.log(ratio)) > Math.log1p(noise));
  const mean = Math.exp(changes.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / Math.max(changes.length, 1));
  return [
    `Against ${beforeName}: ${changes.length} in common, ${moved.length} moved by more than ${percent(noise)}, ` +
    `all take ${digits(mean)} times as long (geometric mean)`,
    ...moved.map(({ name, beforeMs, afterMs, ratio }) =>
      `  ${name.padEnd(kernelWidth + shapeWidth)}${digits(beforeMs).padStart(9)} → ${
        digits(afterMs).padStart(9)
      } ms  ` +
      (ratio < 1 ? `${digits(1 / ratio)} times as fast` : `${digits(ratio)} times as long`)
    ),
    ...(added.length > 0 ? [`  only now: ${some(added)}`] : []),
    ...(missing.length > 0 ? [`  only then: ${some(missing)}`] : []),
  ].join("\n");
}

/** The first few names: a filtered run lacks most of a whole one. */
function some(names: readonly string[]): string {
  const shown = 6;
  return names.slice(0, shown).join("; ") + (names.length > shown ? ` and ${names.length - shown} more` : "");
}
