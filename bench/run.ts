/**
 * Runs the benchmark: measures the chosen parts one after the other, reports each result as text
 * when it is there, and returns the report.
 *
 * @module
 */
import type { Gpu } from "../engine/gpu.ts";
import { casesFor } from "./cases/cases.ts";
import { guidedTasks } from "./cases/unet_shapes.ts";
import { policyOf } from "../kernels/policy.ts";
import { measureBrowser } from "./measure/browser.ts";
import { type Ceiling, measureCeiling } from "./measure/ceiling.ts";
import { measureColdCompilation } from "./measure/compilation.ts";
import { measureDemo } from "./measure/demo.ts";
import { measureEdit } from "./measure/edit.ts";
import { measureFullSize } from "./measure/full_size.ts";
import type { FullSizeModel } from "./measure/random_checkpoint.ts";
import { measureKernel } from "./measure/kernels.ts";
import { measureStages } from "./measure/stages.ts";
import { type DeviceTiming, processorClock, waitingMs, wallClock } from "./measure/timing.ts";
import { openPeers, PeerPace } from "./peers/peers.ts";
import {
  type BenchReport,
  type CompilationRecord,
  type DeviceRecord,
  type FullSizeRecord,
  type KernelRecord,
  netShare,
  type StageRecord,
  summarizePeers,
} from "./report/report.ts";
import { judgeTargets, targetsText } from "./report/targets.ts";
import {
  compilationText,
  deviceText,
  fullSizeText,
  kernelHead,
  kernelLine,
  netNote,
  peerText,
  stageLine,
  stepText,
} from "./report/text.ts";

/** The parts of the benchmark, in the order in which they run. */
export const benchParts = ["stages", "kernels", "edit", "compile", "full-size", "demo", "browser"] as const;
/** One part of the benchmark; see {@linkcode benchParts}. */
export type BenchPart = typeof benchParts[number];

/** Options of {@linkcode runBench}. */
export interface BenchOptions {
  readonly parts: ReadonlySet<BenchPart>;
  /** Opens the device. Called after the stages, which open devices of their own. */
  readonly openGpu: () => Promise<Gpu>;
  /** The model of the stages: a folder, and its name in the output. */
  readonly model: { readonly folder: string; readonly name: string };
  /** Denoising steps of the stages' picture. */
  readonly steps: number;
  /** Kernels whose name and shape match. Default: all. */
  readonly filter?: RegExp;
  /** Whether to measure small shapes and pictures only, for a third of the time each. */
  readonly quick: boolean;
  /**
   * Whether to time ceiling and kernels by processor time; see {@linkcode processorClock}. For
   * software devices and without peers. Default: false.
   */
  readonly byProcessorTime?: boolean;
  /** Whether to measure tfjs, jax-js and, with `python`, PyTorch as well. */
  readonly peers: boolean;
  /** A Python with PyTorch, diffusers and transformers. Default: none. */
  readonly python?: string;
  /** The full-size model, in diffusers' layout. Default: random weights. */
  readonly checkpoint?: string;
  /** The model whose shapes the random weights have. */
  readonly shapes: FullSizeModel;
  /** Side of the full-size step's picture, a multiple of 8. Default: 256 and 512, for SDXL 512. */
  readonly pixels?: number;
  /** Receives the results as text, as soon as they are measured. */
  readonly print: (text: string) => void;
  /**
   * Called with what is measured so far, after each kernel and part that ran on the device, and
   * waited for. Default: nothing.
   */
  readonly onMeasured?: (report: BenchReport) => Promise<void>;
  /** Shows the progress of the kernels, of which there are `total`. Default: not shown. */
  readonly showProgress?: (total: number) => Disposable & { advance(by: number, note: string): void };
}

/** Total time of all batches of one work; see {@linkcode timeInTurns}. */
export function budgetOf({ quick }: { quick: boolean }): number {
  return quick ? 100 : 300;
}

/** The budget of a full-size step: a step of seconds is timed twice, one of a minute once. */
const fullSizeBudgetMs = 10_000;

function defaultPixels({ quick, shapes }: Pick<BenchOptions, "quick" | "shapes">): number[] {
  return quick ? [256] : shapes === "sdxl" ? [512] : [256, 512];
}

/** @throws {RangeError} where quick runs or the device leave out all cases that a filter matches */
export function checkCases(gpu: Gpu, { filter, quick }: Pick<BenchOptions, "filter" | "quick">): void {
  const { isSoftware } = policyOf(gpu);
  if (casesFor({ filter, isSoftware, quick }).length > 0) return;
  const withoutQuick = casesFor({ filter, isSoftware, quick: false }).length;
  const why = withoutQuick > 0 ? "a quick run leaves out" : "software devices take too long for";
  throw new RangeError(
    `Cannot measure kernels that match ${filter} on ${gpu.info.name} as ${why} all of these cases: ` +
      (withoutQuick > 0 ? "omit quick, or choose others" : "choose others"),
  );
}

/** Measures the chosen parts. */
export async function runBench(options: BenchOptions): Promise<BenchReport> {
  const { parts, python, quick, print } = options;
  const date = new Date().toISOString();
  const budgetMs = budgetOf(options);
  const stages: StageRecord[] = [];
  const onStage = (stage: StageRecord) => {
    stages.push(stage);
    print(stageLine(stage));
  };
  const onRemark = (remark: string) => print(`  ${remark}`);
  if (parts.has("stages")) {
    print(`Generating with ${options.model.name}`);
    await measureStages({ model: options.model.folder, steps: options.steps, budgetMs, onStage });
  }

  using gpu = await options.openGpu();
  if (parts.has("kernels")) checkCases(gpu, options);
  const clock = options.byProcessorTime ? processorClock : wallClock;
  const waitMs = await waitingMs(() => gpu.finished(), clock);
  const ceiling = await measureCeiling(gpu, { budgetMs, waitMs, clock });
  const device = deviceRecord(gpu, { ceiling, date, byProcessorTime: options.byProcessorTime });
  print(`\n${deviceText(device)}`);
  const kernels: KernelRecord[] = [], fullSize: FullSizeRecord[] = [];
  let compilation: CompilationRecord | undefined;
  const soFar = (): BenchReport => ({
    device,
    kernels: [...kernels],
    stages: [...stages],
    ...(compilation ? { compilation } : {}),
    ...(fullSize.length > 0 ? { fullSize: [...fullSize] } : {}),
  });
  const keep = async () => await options.onMeasured?.(soFar());
  if (parts.has("kernels")) {
    const onKernel = async (record: KernelRecord) => {
      kernels.push(record);
      await keep();
    };
    await measureKernels(gpu, { ...options, budgetMs, waitMs, clock, ceiling, onKernel });
  }
  if (parts.has("edit")) {
    print("\nThe edit at the sizes of Stable Diffusion 1.4");
    const eigenWidths = quick ? [768] : [768, 2048];
    await measureEdit(gpu, { budgetMs, waitMs, python, eigenWidths, onStage, onRemark });
    await keep();
  }
  if (parts.has("compile")) {
    print("\nCompiling the kernels of a full-size model, with empty shader caches");
    compilation = await measureColdCompilation();
    print(compilationText(compilation));
    await keep();
  }
  if (parts.has("full-size")) {
    print("\nA guided step of a full-size model");
    await measureFullSize({
      checkpoint: options.checkpoint,
      model: options.shapes,
      pixels: options.pixels !== undefined ? [options.pixels] : defaultPixels(options),
      python,
      budgetMs: fullSizeBudgetMs,
      onRecord: (record) => {
        fullSize.push(record);
        print(fullSizeText(record));
      },
      onRemark,
    });
    await keep();
  }
  if (parts.has("demo")) {
    const stage = await measureDemo();
    if (stage) onStage(stage);
    await keep();
  }
  if (parts.has("browser")) {
    print("\nA picture of the embedded model in Chromium and in Deno");
    await measureBrowser({ steps: options.steps, onStage, onRemark });
  }

  const measured = soFar();
  const targets = judgeTargets(measured);
  if (targets.some(({ verdict }) => verdict !== "not measured")) print(`\nTargets\n${targetsText(targets)}`);
  return { ...measured, targets };
}

async function measureKernels(
  gpu: Gpu,
  options: BenchOptions & DeviceTiming & {
    readonly budgetMs: number;
    readonly ceiling: Ceiling;
    readonly onKernel: (record: KernelRecord) => Promise<void>;
  },
): Promise<void> {
  const { filter, quick, waitMs, python, print } = options;
  const { isSoftware } = policyOf(gpu);
  const cases = casesFor({ filter, isSoftware, quick });
  using opened = options.peers ? await openPeers({ waitMs, isSoftware, python }) : undefined;
  const pace = new PeerPace();
  for (const reason of opened?.absent ?? []) print(`not available: ${reason}`);
  print(`\n${kernelHead()}`);
  const kernels: KernelRecord[] = [];
  using progress = options.showProgress?.(cases.length);
  for (const kernelCase of cases) {
    progress?.advance(1, `${kernelCase.kernel} ${kernelCase.shape}`);
    const peers = kernelCase.peersOnRequest && !filter ? [] : opened?.peers;
    const { record, remarks } = await measureKernel(gpu, kernelCase, { ...options, peers, pace });
    kernels.push(record);
    print(kernelLine(record, remarks));
    await options.onKernel(record);
    gpu.trim();
  }
  if (kernels.some((kernel) => netShare(kernel) !== undefined)) print(netNote);
  const ofStep = cases.filter(({ perStep }) => perStep !== undefined).length;
  if (ofStep === guidedTasks.length) print(`\n${stepText(kernels)}`);
  for (const summary of summarizePeers(kernels)) print(peerText(summary));
}

function deviceRecord(
  gpu: Gpu,
  { ceiling, date, byProcessorTime }: { ceiling: Ceiling; date: string; byProcessorTime?: boolean },
): DeviceRecord {
  const { name, deviceClass, isFallbackAdapter, subgroupSize, features } = gpu.info;
  return {
    name,
    deviceClass,
    isFallbackAdapter,
    subgroupSize,
    features: [...features],
    runtime: `Deno ${Deno.version.deno}`,
    system: `${Deno.build.os} ${Deno.build.arch}, ${navigator.hardwareConcurrency} threads`,
    date,
    ...(byProcessorTime ? { times: "processor time" } : {}),
    ceiling,
  };
}
