/**
 * What compiling a model's kernels takes, apart from running them.
 *
 * Drivers compile when a pipeline is created, or when it first runs, as Mesa's software driver does; that one may also compile a pipeline anew for
 * other parameters. So every kernel run of a picture is rehearsed, which creates the pipelines; then each of them is run with each of its
 * parameters on one workgroup, twice: what the first time takes longer than the second is compiling.
 *
 * @module
 */
import { Gpu } from "../engine/gpu.ts";
import type { CompiledKernel } from "../engine/kernel.ts";
import type { RehearsedRun } from "../engine/recorder.ts";
import { Tensor } from "../engine/tensor.ts";
import { solveOperator } from "../pipeline/editing/edit_system.ts";
import type { FileTree } from "../pipeline/loading/byte_source.ts";
import { StableDiffusionPipeline } from "../pipeline/stable_diffusion_pipeline.ts";
import { TorchGenerator } from "../schedulers/mod.ts";
import { syntheticRows } from "./edit.ts";
import { hollowCheckpoint } from "./hollow_checkpoint.ts";
import { type CompilationRecord, compileMs } from "./report.ts";

const prompt = "A pack of roses";

/**
 * Opens a device of its own and compiles what drawing and editing with a model wants. Whether that is the first time on this machine is up to
 * the caller: drivers keep what they compiled.
 */
export async function measureCompilation(
  model: string | FileTree,
  options: { side?: number } = {},
): Promise<CompilationRecord> {
  const { side } = options;
  using gpu = await Gpu.request();
  const noted: { part: string; runs: RehearsedRun[] }[] = [];
  const rehearse = async (part: string, body: () => void | Promise<void>) => {
    noted.push({ part, runs: await gpu.rehearse(body) });
  };
  let loaded: StableDiffusionPipeline | undefined;
  await rehearse("loading", async () => {
    loaded = await StableDiffusionPipeline.fromPretrained(model, { gpu, safetyChecker: null });
  });
  using pipe = loaded!;
  await rehearse("text encoder", async () => {
    const { promptEmbeds, negativePromptEmbeds } = await pipe.encodePrompt(prompt);
    promptEmbeds[Symbol.dispose]();
    negativePromptEmbeds?.[Symbol.dispose]();
  });
  const settings = { height: side, width: side, generator: new TorchGenerator(7) };
  // Multi-step samplers differ from step to step until their history is full.
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
    pipelines: gpu.compiledKernels.length,
    createMs: gpu.compiledKernels.reduce((sum, { createMs }) => sum + createMs, 0),
    firstRunMs: trial.firstRunMs + edit.firstRunMs,
    variants,
  };
}

/** Runs whatever was noted on one workgroup each, several times over. */
async function timeFirstRuns(gpu: Gpu, noted: readonly { part: string; runs: readonly RehearsedRun[] }[]) {
  const distinct = new Map<string, { part: string; run: RehearsedRun }>();
  for (const { part, runs } of noted) {
    for (const run of runs) {
      const key = `${run.kernel.id} ${run.params}`;
      if (!distinct.has(key)) distinct.set(key, { part, run });
    }
  }
  const trials = [...distinct.values()];
  // Every binding has memory of its own, since a kernel may not write what it reads; contents do not matter.
  const lengths: number[] = [];
  for (const { run } of trials) {
    run.bindingBytes.forEach((bytes, binding) => lengths[binding] = Math.max(lengths[binding] ?? 16, bytes));
  }
  const memory = lengths.map((bytes) => Tensor.from(gpu, new Uint32Array(bytes / 4), [bytes / 4]));
  await gpu.finished();
  try {
    const round = () =>
      timed(gpu, () =>
        trials.forEach(({ run }, index) => {
          const entries = run.bindingBytes.map((size, binding) => ({
            buffer: memory[binding].buffer,
            offset: 0,
            size,
          }));
          const pack = (view: DataView) => new Uint8Array(view.buffer, view.byteOffset).set(run.params);
          gpu.recorder.dispatch(run.kernel, entries, pack, [1, 1, 1], `${index}`);
        }));
    const rounds = [await round(), await round(), await round()];
    const secondMs = Math.min(rounds[1].ms, rounds[2].ms);
    const firstRunMs = (index: number) => {
      const [first, second, third] = rounds.map(({ rows }) => rows.get(`${index}`) ?? 0);
      return Math.max(0, first - Math.min(second, third));
    };
    const variants = [...Map.groupBy(trials.keys(), (index) => trials[index].run.kernel)].map(([kernel, indices]) => ({
      ...nameOf(kernel),
      part: trials[indices[0]].part,
      parameters: indices.length,
      firstRunMs: indices.reduce((sum, index) => sum + firstRunMs(index), 0),
    }));
    return { variants, firstRunMs: Math.max(0, rounds[0].ms - secondMs) };
  } finally {
    for (const tensor of memory) tensor[Symbol.dispose]();
  }
}

function nameOf({ name, variant, createMs }: CompiledKernel) {
  return { kernel: name, variant, createMs };
}

/** An edit waits for its own numbers, so it cannot be rehearsed: it is short enough to be done. Its kernels are told apart by name alone. */
async function timeFirstEdit(gpu: Gpu, width: number) {
  const rows = syntheticRows({ width });
  const shape = [rows.source.length / width, width];
  using source = Tensor.from(gpu, rows.source, shape);
  using destination = Tensor.from(gpu, rows.destination, shape);
  const before = new Set(gpu.compiledKernels);
  const round = () =>
    timed(gpu, async () => {
      using _ = await solveOperator(gpu, { source, destination }, { lamb: 0.1 });
    });
  const [first, second] = [await round(), await round()];
  const made = Map.groupBy(gpu.compiledKernels.filter((kernel) => !before.has(kernel)), ({ name }) => name);
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

/** How long work takes until it is done, and its kernels' own times by name where the device tells them. */
async function timed(gpu: Gpu, work: () => void | Promise<void>): Promise<{ ms: number; rows: Map<string, number> }> {
  const hasTimes = gpu.info.features.has("timestamp-query");
  const started = performance.now();
  const rows = hasTimes ? await gpu.profile(work) : [];
  if (!hasTimes) await work();
  await gpu.finished();
  return { ms: performance.now() - started, rows: new Map(rows.map(({ kernel, ms }) => [kernel, ms])) };
}

/** Switches off, for a process and those that it starts, what drivers keep of former runs. */
const withoutCaches: Readonly<Record<string, string>> = {
  MESA_SHADER_CACHE_DISABLE: "true", // Mesa: lavapipe, AMD, Intel
  __GL_SHADER_DISK_CACHE: "0", // NVIDIA
};

/**
 * {@linkcode measureCompilation} as if the machine had never seen the kernels: in a process of its own, without the driver's caches.
 *
 * @param model A folder; default: a full-size model without numbers
 * @throws {Error} with what the process said when it failed
 */
export async function measureColdCompilation(model?: string): Promise<CompilationRecord> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-lock", import.meta.filename!, ...(model === undefined ? [] : [model])],
    env: { ...withoutCaches },
  }).output();
  if (!success) throw new Error(`Cannot measure compilation: ${new TextDecoder().decode(stderr)}`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

if (import.meta.main) {
  const [model] = Deno.args;
  console.log(JSON.stringify(await measureCompilation(model ?? await hollowCheckpoint())));
}
