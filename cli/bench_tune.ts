/**
 * `bluerose bench --tune`: measures the choices of a device and saves each at once.
 *
 * @module
 */
import { unetShapes } from "../bench/cases/model_shapes.ts";
import { guidedSizes } from "../bench/cases/unet_shapes.ts";
import { waitingMs } from "../bench/measure/timing.ts";
import { runnable, tune, type TuningStep, tuningSteps } from "../bench/measure/tune.ts";
import { type TunedModel, tunedModel } from "../bench/measure/tune_operation.ts";
import { tunedText } from "../bench/report/tuning_text.ts";
import { countText } from "../engine/inspect.ts";
import type { Gpu } from "../engine/gpu.ts";
import { tuningName } from "../kernels/policy.ts";
import { OutputError } from "../pipeline/errors.ts";
import { checkOutput } from "../pipeline/output/target.ts";
import { tuningFile } from "../pipeline/tuning_file.ts";
import { parseUNetConfig } from "../pipeline/checkpoint/diffusers/config/unet.ts";
import { ArgumentError } from "./argument_error.ts";
import { readTextOf } from "./files.ts";
import { say } from "./printer.ts";
import { showProgress } from "./progress.ts";
import { progressFile, UnfinishedTuning } from "./tile_file.ts";

/** Tunes the device, starting from the defaults of its class, and saves the result. */
export async function tuneDevice(
  openGpu: () => Promise<Gpu>,
  checkpoint: string | undefined,
  options: { budgetMs: number },
): Promise<void> {
  for (const path of [tuningFile(), progressFile()]) await checkPlace(path);
  const model = checkpoint === undefined ? undefined : await modelIn(checkpoint);
  using gpu = await openGpu();
  say(gpu.info.name);
  await takeSteps(gpu, tuningSteps(model), options);
}

/** Refuses a place that cannot be written, and names the variable that chooses another. */
async function checkPlace(path: string): Promise<void> {
  try {
    await checkOutput(path);
  } catch (error) {
    if (!(error instanceof OutputError)) throw error;
    throw new OutputError(`${error.message}. The environment variable BLUEROSE_TILES names the tuning file`, {
      path,
      cause: error,
    });
  }
}

/** Takes the steps that an interrupted tuning has not taken, and saves each. */
export async function takeSteps(
  gpu: Gpu,
  steps: readonly TuningStep[],
  { budgetMs }: { budgetMs: number },
): Promise<void> {
  const unfinished = await UnfinishedTuning.open(tuningName(gpu.info));
  // A file that was removed, or a choice that the device cannot run any more, is measured again.
  const saved = runnable(gpu, unfinished.tuning);
  const left = steps.filter((step) => !(unfinished.has(step.name) && step.isIn(saved)));
  say(
    left.length < steps.length
      ? `${steps.length - left.length} of ${countText(steps.length, "choice")} measured before an interruption, ` +
        `${left.length} left. To measure all again, remove ${progressFile()}`
      : `${
        countText(steps.length, "choice")
      }. Each is saved at once; after an interruption, the same command measures the rest`,
  );
  using progress = showProgress("tuning", { total: left.reduce((sum, step) => sum + step.timings(gpu), 0) });
  await tune(gpu, {
    steps: left,
    tuning: unfinished.tuning,
    budgetMs,
    waitMs: await waitingMs(() => gpu.finished()),
    async onStep(step, { tuned, tuning }) {
      await unfinished.save(step.name, tuning);
      say(tunedText(tuned));
      progress.advance(step.timings(gpu), step.name);
    },
  });
  say(await unfinished.finish());
}

/** Fields that the parser has defaults for, as diffusers has, and that every model names. */
const shapeFields = [
  "block_out_channels",
  "layers_per_block",
  "cross_attention_dim",
  "down_block_types",
  "up_block_types",
  "attention_head_dim",
];

/**
 * What a guided step at 512² of the UNet in a folder of diffusers' layout consists of.
 *
 * @throws {InputError} where its configuration cannot be read
 * @throws {ConfigError} where it is that of another model
 */
async function modelIn(folder: string): Promise<TunedModel> {
  const path = `${folder}/unet/config.json`;
  const refuse = (why: string): never => {
    throw new ArgumentError(`Cannot tune for the products of ${folder} as ${why}`, { argument: "--checkpoint" });
  };
  const text = await readTextOf(path, "--checkpoint");
  let config;
  try {
    config = JSON.parse(text);
  } catch (error) {
    return refuse(`${path} is not JSON: ${(error as Error).message}`);
  }
  parseUNetConfig(config, path);
  const missing = shapeFields.filter((name) => !Object.hasOwn(config, name));
  if (missing.length > 0) return refuse(`${path} lacks ${missing.join(", ")}, from which shapes follow`);
  try {
    return tunedModel(unetShapes(config), config, guidedSizes);
  } catch (error) {
    return refuse(`${path} is no configuration of a supported UNet: ${(error as Error).message}`);
  }
}
