/**
 * Measures the stages from process start to a picture: first with empty shader caches, then with
 * compiled kernels.
 *
 * @module
 */
import { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import type { UNet2DConditionModel } from "../../pipeline/models/unet.ts";
import type { EditingPipeline } from "../../pipeline/editing_pipeline.ts";
import type { AddedConditions } from "../../pipeline/models/added_conditions.ts";
import { openPipeline } from "../../pipeline/open_pipeline.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { measureColdCompilation } from "./compilation.ts";
import { measureFirstPicture } from "./first_picture.ts";
import { pictureStage } from "../report/stage_names.ts";
import { testValues } from "../cases/task.ts";
import type { StageRecord } from "../report/report.ts";
import { deviceWork, hostWork, time, timeInTurns, type TimingOptions, waitingMs } from "./timing.ts";

/** Options of {@linkcode measureStages}. */
export interface StageOptions extends TimingOptions {
  /** Folder of the model. */
  readonly model: string;
  /** Denoising steps of a picture. Default: 20. */
  readonly steps?: number;
  /** Called with each stage as soon as it is measured. */
  readonly onStage: (stage: StageRecord) => void;
}

const prompt = "A pack of roses";
const pair = { source: "A pack of roses", destination: "A pack of blue roses" };

/** Measures a picture in a new process, then with compiled kernels on a device of its own. */
export async function measureStages(options: StageOptions): Promise<void> {
  const { model, steps = 20, onStage } = options;
  await measureCold({ model, steps, onStage });
  using gpu = await Gpu.request();
  using pipe = await openPipeline(model, { gpu });
  const draw = async () => {
    await pipe.generate(prompt, { numInferenceSteps: steps, generator: new TorchGenerator(7), outputType: "array" });
  };
  const warm = await time(hostWork(draw), { budgetMs: 1 }); // a few pictures at most
  onStage({ stage: pictureStage(steps), ms: warm.minMs });
  await measureParts(pipe, options);
}

/**
 * The stages from process start to a picture. The compile time of the first picture is measured by
 * another process.
 */
async function measureCold({ model, steps, onStage }: Required<Pick<StageOptions, "model" | "steps" | "onStage">>) {
  const first = await measureFirstPicture(model, { steps });
  const { variants } = await measureColdCompilation(model);
  const drawn = variants.filter(({ part }) => part !== "edit" && part !== "loading");
  const firstRunMs = drawn.reduce((sum, variant) => sum + variant.firstRunMs, 0);
  const { startMs, openMs, loadMs, firstMs, pipelines, createMs, secondMs } = first;
  for (
    const [stage, ms] of [
      ["start Deno and load the program", startMs],
      ["open the device", openMs],
      ["load the model", loadMs],
      [`first picture, ${steps} steps, guided`, firstMs],
      [`first picture: creating ${pipelines} pipelines`, createMs],
      ["first picture: time of the second picture", secondMs],
      ["first picture: the rest, compiling at first runs", firstMs - createMs - secondMs],
      ["compiling at first runs, one kernel after another", firstRunMs],
    ] as const
  ) {
    onStage({ stage: `cold: ${stage}`, ms });
  }
}

async function measureParts(pipe: EditingPipeline, options: StageOptions): Promise<void> {
  const { onStage } = options;
  const { gpu, unet, vae } = pipe;
  const waitMs = await waitingMs(() => gpu.finished());
  const stage = async (name: string, record: () => void) => {
    const { minMs } = await time(deviceWork(gpu, record, { waitMs }), options);
    onStage({ stage: name, ms: minMs });
  };

  const texts = ["", prompt];
  await stage("encode a prompt and the empty prompt", () => void pipe.encodeTexts(texts));

  const side = unet.config.sampleSize ?? 64, channels = unet.config.inChannels;
  using one = Tensor.from(gpu, testValues(channels * side * side), [1, channels, side, side]);
  using both = concat([one, one], 0);
  using states = await pipe.encodeTexts(texts);
  using pooled = await pipe.encodePooled?.(texts);
  const pixels = side * vae.spatialScale;
  const timeIds = texts.map(() => [pixels, pixels, 0, 0, pixels, pixels]);
  const addedCondKwargs = pooled && { textEmbeds: pooled, timeIds };
  await stage(
    "keys and values of the prompts, once per picture",
    () => unet.prepareContext(states, { addedCondKwargs }),
  );
  await measureSteps(unet, { sample: both, states, addedCondKwargs }, { ...options, waitMs });
  await stage("decode the latents", () => void vae.decode(one));

  const solve = async () => {
    using _ = await ModelEdit.solve([pair], { lamb: 0.1 }, pipe);
  };
  onStage({ stage: "edit: encode, align and solve", ms: (await time(hostWork(solve), options)).minMs });
}

/** A UNet step with f32 and f16 activations, interleaved: time and memory. */
async function measureSteps(
  unet: UNet2DConditionModel,
  { sample, ...prompts }: { sample: Tensor; states: Tensor; addedCondKwargs?: AddedConditions },
  { onStage, waitMs, ...options }: StageOptions & { waitMs: number },
): Promise<void> {
  const { gpu } = unet;
  const usual = unet.activations;
  const types = ["f32", "f16"] as const;
  const steps = types.map((activations) => {
    unet.activations = activations;
    const { states, addedCondKwargs } = prompts;
    const context = gpu.scope(() => ({ made: unet.prepareContext(states, { addedCondKwargs }).keep() })).made;
    const { addedEmbedding } = context;
    const times = unet.embedTimesteps(addedEmbedding ? [500] : [500, 500], { addedEmbedding });
    const record = () => {
      unet.activations = activations;
      unet.forward(sample, times, context);
    };
    return { context, times, record };
  });
  try {
    const timings = await timeInTurns(steps.map(({ record }) => deviceWork(gpu, record, { waitMs })), options);
    for (const [i, { record }] of steps.entries()) {
      gpu.resetPeak();
      const before = gpu.memory.live;
      gpu.scope(record);
      const bytes = gpu.memory.peak - before;
      const stage = "UNet step, guided (a batch of two)" + (types[i] === "f32" ? "" : `, activations in ${types[i]}`);
      onStage({ stage, ms: timings[i].minMs, bytes });
    }
  } finally {
    unet.activations = usual;
    for (const { context, times } of steps) for (const made of [context, times]) made[Symbol.dispose]();
  }
}
