/**
 * Measures the compile time of a model's kernels, apart from their run time.
 *
 * Most drivers compile when a pipeline is created. Mesa's software driver compiles at the first
 * run, and can compile a pipeline again for other parameters. All dispatches of a picture are
 * therefore rehearsed, which creates the pipelines. Each is then run twice on one workgroup with
 * each of its parameter sets. The difference of the two runs is the compile time.
 *
 * @module
 */
import { Gpu } from "../../engine/gpu.ts";
import type { CompiledKernel } from "../../engine/kernel/pipeline_cache.ts";
import { OneWorkgroupRuns } from "../../engine/record/one_workgroup.ts";
import type { RehearsedRun } from "../../engine/record/rehearse_sink.ts";
import { Tensor } from "../../engine/tensor.ts";
import { solveOperator } from "../../pipeline/editing/solve/edit_system.ts";
import type { FileTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import type { EditingPipeline } from "../../pipeline/editing_pipeline.ts";
import { openPipeline } from "../../pipeline/open_pipeline.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { askColdProcess } from "./cold_process.ts";
import { syntheticRows } from "./edit.ts";
import { hollowCheckpoint } from "./hollow_checkpoint.ts";
import { type CompilationRecord, compileMs } from "../report/report.ts";

const prompt = "A pack of roses";

/**
 * Opens a device and compiles the kernels that drawing and editing with a model need. The caller
 * decides whether the driver's cache is empty.
 */
export async function measureCompilation(
  model: string | FileTree,
  options: { side?: number } = {},
): Promise<CompilationRecord> {
  const { side } = options;
  using gpu = await Gpu.request();
  const noted: { part: string; runs: RehearsedRun[] }[] = [];
  const rehearse = async (part: string, body: () => void | Promise<void>) => {
    noted.push({ part, runs: await gpu.context.rehearse(body) });
  };
  let loaded: EditingPipeline | undefined;
  await rehearse("loading", async () => {
    loaded = await openPipeline(model, { gpu, safetyChecker: null });
  });
  using pipe = loaded!;
  await rehearse("text encoder", async () => {
    const embeddings: Partial<Record<string, Tensor>> = { ...await pipe.encodePrompt(prompt) };
    for (const tensor of Object.values(embeddings)) tensor?.[Symbol.dispose]();
  });
  const settings = { height: side, width: side, generator: new TorchGenerator(7) };
  // Multistep samplers use other kernels at each step until their history is full.
  await rehearse("UNet and sampler", async () => {
    using _ = (await pipe.generate(prompt, { ...settings, numInferenceSteps: 5, outputType: "latent" })).images;
  });
  await rehearse("VAE decoder", async () => {
    await pipe.generate(prompt, { ...settings, numInferenceSteps: 1, outputType: "array" });
  });
  gpu.trim();

  const trial = await timeFirstRuns(gpu, noted);
  const edit = await timeFirstEdit(gpu, pipe.unet.config.crossAttentionDim);
  const variants = [...trial.variants, ...edit.variants].sort((a, b) => compileMs(b) - compileMs(a));
  return {
    device: gpu.info.name,
    model: typeof model === "string" ? model : model.name,
    pipelines: gpu.context.pipelines.all.length,
    createMs: gpu.context.pipelines.all.reduce((sum, { createMs }) => sum + createMs, 0),
    firstRunMs: trial.firstRunMs + edit.firstRunMs,
    variants,
  };
}

/** Runs all recorded dispatches on one workgroup each, several times. */
async function timeFirstRuns(gpu: Gpu, noted: readonly { part: string; runs: readonly RehearsedRun[] }[]) {
  using trial = new OneWorkgroupRuns(gpu.context);
  const distinct = new Map<string, RehearsedRun>(); // each kernel once with each of its parameters
  for (const run of noted.flatMap(({ runs }) => runs)) {
    const key = `${run.kernel.id} ${run.params}`;
    if (!distinct.has(key)) distinct.set(key, run);
  }
  const runs = [...distinct.values()];
  const record = () => runs.forEach((run, index) => gpu.context.recorder.dispatch(trial.record(run, `${index}`)));
  await gpu.finished();
  const rounds: { ms: number; rows: Map<string, number> }[] = [];
  for (let i = 0; i < 3; i++) rounds.push(await timed(gpu, record));
  const [first, second, third] = rounds;
  const firstRunMs = (index: number) => {
    const [a, b, c] = rounds.map(({ rows }) => rows.get(`${index}`) ?? 0);
    return Math.max(0, a - Math.min(b, c));
  };
  const partOf = (run: RehearsedRun) => noted.find((each) => each.runs.includes(run))!.part;
  const variants = [...Map.groupBy(runs.keys(), (index) => runs[index].kernel)].map(([kernel, indices]) => ({
    ...nameOf(kernel),
    part: partOf(runs[indices[0]]),
    parameters: indices.length,
    firstRunMs: indices.reduce((sum, index) => sum + firstRunMs(index), 0),
  }));
  return { variants, firstRunMs: Math.max(0, first.ms - Math.min(second.ms, third.ms)) };
}

function nameOf({ name, variant, createMs }: CompiledKernel) {
  return { kernel: name, variant, createMs };
}

/**
 * Times an edit, which reads back its own results and so cannot be rehearsed. Its kernels are
 * distinguished by name only.
 */
async function timeFirstEdit(gpu: Gpu, width: number) {
  const rows = syntheticRows({ width });
  const shape = [rows.source.length / width, width];
  using source = Tensor.from(gpu, rows.source, shape);
  using destination = Tensor.from(gpu, rows.destination, shape);
  const before = new Set(gpu.context.pipelines.all);
  const round = () =>
    timed(gpu, async () => {
      using _ = await solveOperator(gpu, { source, destination }, { lamb: 0.1 });
    });
  const [first, second] = [await round(), await round()];
  const made = Map.groupBy(gpu.context.pipelines.all.filter((kernel) => !before.has(kernel)), ({ name }) => name);
  const createMs = (kernels: readonly CompiledKernel[]) => kernels.reduce((sum, each) => sum + each.createMs, 0);
  const variants = [...made].map(([kernel, kernels]) => ({
    part: "edit",
    kernel,
    variant: kernels.map(({ variant }) => variant).join(" | "),
    parameters: kernels.length,
    createMs: createMs(kernels),
    firstRunMs: Math.max(0, (first.rows.get(kernel) ?? 0) - (second.rows.get(kernel) ?? 0)),
  }));
  return { variants, firstRunMs: Math.max(0, first.ms - second.ms - createMs([...made.values()].flat())) };
}

/**
 * The time until work is done, and the time of each kernel by name where the device has timestamps.
 */
async function timed(gpu: Gpu, work: () => void | Promise<void>): Promise<{ ms: number; rows: Map<string, number> }> {
  const hasTimes = gpu.info.features.has("timestamp-query");
  const started = performance.now();
  const rows = hasTimes ? await gpu.profile(work) : [];
  if (!hasTimes) await work();
  await gpu.finished();
  return { ms: performance.now() - started, rows: new Map(rows.map(({ kernel, ms }) => [kernel, ms])) };
}

/**
 * The time that a user waits for the same: drawing compiles all kernels in advance, on all cores
 * where the driver would compile them one by one.
 */
async function measureCompilingAhead(model: string | FileTree, { side }: { side?: number } = {}): Promise<number> {
  using gpu = await Gpu.request();
  using pipe = await openPipeline(model, { gpu, safetyChecker: null });
  await gpu.finished();
  const started = performance.now();
  await pipe.compileAhead(prompt, { height: side, width: side });
  await gpu.finished();
  const drawingMs = performance.now() - started;
  gpu.trim();
  const { variants, firstRunMs } = await timeFirstEdit(gpu, pipe.unet.config.crossAttentionDim);
  return drawingMs + firstRunMs + variants.reduce((sum, { createMs }) => sum + createMs, 0);
}

/**
 * {@linkcode measureCompilation} in a process of its own with empty shader caches.
 *
 * @param model a folder. Default: a full-size model without weights
 * @throws {Error} with the process's output when it fails
 */
export async function measureColdCompilation(model?: string): Promise<CompilationRecord> {
  const ask = async <T>(how: string) =>
    await askColdProcess<T>(import.meta.filename!, [how, ...(model ? [model] : [])]);
  return { ...await ask<CompilationRecord>("one-by-one"), aheadMs: await ask<number>("ahead") };
}

if (import.meta.main) {
  const [how, folder] = Deno.args;
  const model = folder ?? await hollowCheckpoint();
  console.log(JSON.stringify(how === "ahead" ? await measureCompilingAhead(model) : await measureCompilation(model)));
}
