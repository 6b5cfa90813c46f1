/**
 * The parts of the benchmark. Each measures, keeps its records and reports them as text when they
 * are there.
 *
 * @module
 */
import type { Gpu } from "../engine/gpu.ts";
import { policyOf } from "../kernels/policy.ts";
import { casesFor } from "./cases/cases.ts";
import { guidedTasks } from "./cases/unet_shapes.ts";
import { measureBrowser } from "./measure/browser.ts";
import type { Ceiling } from "./measure/ceiling.ts";
import { measureColdCompilation } from "./measure/compilation.ts";
import { measureDemo } from "./measure/demo.ts";
import { measureEdit } from "./measure/edit.ts";
import { measureFullSize } from "./measure/full_size.ts";
import { measureKernel } from "./measure/kernels.ts";
import { measureStages } from "./measure/stages.ts";
import type { DeviceTiming } from "./measure/timing.ts";
import { type BenchOptions, type BenchPart, budgetOf } from "./options.ts";
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
import {
  compilationText,
  fullSizeText,
  kernelHead,
  kernelLine,
  netNote,
  peerText,
  stageLine,
  stepText,
} from "./report/text.ts";

/** What a run has measured so far. */
export class Records {
  readonly kernels: KernelRecord[] = [];
  readonly stages: StageRecord[] = [];
  readonly fullSize: FullSizeRecord[] = [];
  compilation?: CompilationRecord;

  /** A report of what is measured so far, which later records leave as it is. */
  reportOn(device: DeviceRecord): BenchReport {
    return {
      device,
      kernels: [...this.kernels],
      stages: [...this.stages],
      ...(this.compilation ? { compilation: this.compilation } : {}),
      ...(this.fullSize.length > 0 ? { fullSize: [...this.fullSize] } : {}),
    };
  }
}

/** What the parts that run beside an open device share. */
export interface Run {
  readonly gpu: Gpu;
  readonly options: BenchOptions;
  readonly timing: DeviceTiming & { readonly budgetMs: number; readonly ceiling: Ceiling };
  readonly records: Records;
  /** Gives what is measured so far to {@linkcode BenchOptions.onMeasured}. */
  readonly keep: () => Promise<void>;
}

/** Measures the stages of a picture, on devices of their own. */
export async function measurePicture(options: BenchOptions, records: Records): Promise<void> {
  const { model, steps, print } = options;
  print(`Generating with ${model.name}`);
  await measureStages({ model: model.folder, steps, budgetMs: budgetOf(options), ...listeners(options, records) });
}

/** The parts after {@linkcode measurePicture}. */
export const partsOnDevice: Readonly<Record<Exclude<BenchPart, "stages">, (run: Run) => Promise<void>>> = {
  kernels: measureKernels,
  async edit({ gpu, options, timing, records, keep }) {
    options.print("\nThe edit at the sizes of Stable Diffusion 1.4");
    const { budgetMs, waitMs } = timing, eigenWidths = options.quick ? [768] : [768, 2048];
    const { python } = options;
    await measureEdit(gpu, { budgetMs, waitMs, python, eigenWidths, ...listeners(options, records) });
    await keep();
  },
  async compile({ options: { print }, records, keep }) {
    print("\nCompiling the kernels of a full-size model, with empty shader caches");
    records.compilation = await measureColdCompilation();
    print(compilationText(records.compilation));
    await keep();
  },
  "full-size": measureFullSizeStep,
  async demo({ options, records, keep }) {
    const stage = await measureDemo();
    if (stage) listeners(options, records).onStage(stage);
    await keep();
  },
  async browser({ options, records }) {
    options.print("\nA picture of the embedded model in Chromium and in Deno");
    await measureBrowser({ steps: options.steps, ...listeners(options, records) });
  },
};

/** Keeps and prints what a part measures and remarks. */
const listeners = ({ print }: BenchOptions, { stages }: Records) => ({
  onStage(stage: StageRecord) {
    stages.push(stage);
    print(stageLine(stage));
  },
  onRemark: (remark: string) => print(`  ${remark}`),
});

async function measureKernels({ gpu, options, timing, records, keep }: Run): Promise<void> {
  const { filter, quick, python, print } = options, { waitMs } = timing, { kernels } = records;
  const { isSoftware } = policyOf(gpu);
  const cases = casesFor({ filter, isSoftware, quick });
  using opened = options.peers ? await openPeers({ waitMs, isSoftware, python }) : undefined;
  const pace = new PeerPace();
  for (const reason of opened?.absent ?? []) print(`not available: ${reason}`);
  print(`\n${kernelHead()}`);
  using progress = options.showProgress?.(cases.length);
  for (const kernelCase of cases) {
    progress?.advance(1, `${kernelCase.kernel} ${kernelCase.shape}`);
    const peers = kernelCase.peersOnRequest && !filter ? [] : opened?.peers;
    const { record, remarks } = await measureKernel(gpu, kernelCase, { ...options, ...timing, peers, pace });
    kernels.push(record);
    print(kernelLine(record, remarks));
    await keep();
    gpu.trim();
  }
  if (kernels.some((kernel) => netShare(kernel) !== undefined)) print(netNote);
  const ofStep = cases.filter(({ perStep }) => perStep !== undefined).length;
  if (ofStep === guidedTasks.length) print(`\n${stepText(kernels)}`);
  for (const summary of summarizePeers(kernels)) print(peerText(summary));
}

/** The budget of a full-size step: a step of seconds is timed twice, one of a minute once. */
const fullSizeBudgetMs = 10_000;

function defaultPixels({ quick, shapes }: Pick<BenchOptions, "quick" | "shapes">): number[] {
  return quick ? [256] : shapes === "sdxl" ? [512] : [256, 512];
}

async function measureFullSizeStep({ options, records, keep }: Run): Promise<void> {
  const { checkpoint, shapes, pixels, python, print } = options;
  print("\nA guided step of a full-size model");
  await measureFullSize({
    checkpoint,
    model: shapes,
    pixels: pixels !== undefined ? [pixels] : defaultPixels(options),
    python,
    budgetMs: fullSizeBudgetMs,
    onRecord: (record) => {
      records.fullSize.push(record);
      print(fullSizeText(record));
    },
    onRemark: listeners(options, records).onRemark,
  });
  await keep();
}
