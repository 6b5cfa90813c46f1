import { isWeightsFile } from "../pipeline/checkpoint/source/weights_file.ts";
import { isHubId } from "../pipeline/checkpoint/hub/hub.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { openPipeline as openCheckpoint } from "../pipeline/open_pipeline.ts";
import { ArgumentError } from "./argument_error.ts";
import { resolveModel } from "./embedded_model.ts";
import { interruptSignal } from "./interrupt.ts";
import type { ModelValues, PictureValues } from "./flags.ts";
import { rememberDevice } from "./failure.ts";
import { checkModelChoice } from "./model_choice.ts";
import { isAddress } from "./model_hash.ts";
import { requireAccess } from "./permissions.ts";
import { showProgress } from "./progress.ts";
import { samplerOf } from "./sampler.ts";
import { parseWeightedFile } from "./weighted_file.ts";
import { checkFamilyFlags } from "./xl_flags.ts";

/**
 * Opens a model with its LoRAs and textual inversions. Shows a progress bar on a terminal.
 *
 * @throws {ArgumentError} where a flag does not apply to the kind of model
 */
export async function openPipeline(values: ModelValues): Promise<EditingPipeline> {
  // before the model, so that a typing error costs no download
  const loras = values.lora.map((text) => parseWeightedFile(text, "--lora", "FILE[:WEIGHT]"));
  const pipe = await openModel(values);
  rememberDevice(pipe.gpu.info.name);
  try {
    // Before any edit: edits are solved for the outputs of the text encoder with its adapters.
    for (const path of values.textualInversion) await pipe.loadTextualInversion(path);
    for (const { path, weight } of loras) await pipe.loadLoraWeights(path, { weight });
    return pipe;
  } catch (error) {
    pipe[Symbol.dispose]();
    throw error;
  }
}

async function openModel(values: ModelValues): Promise<EditingPipeline> {
  const { variant, revision, tokenizer, activations, arithmetic, vae, predictionType } = values;
  if (values.model.trim() === "") {
    throw new ArgumentError('Cannot use --model "": it takes a folder, a file, an address or OWNER/NAME', {
      argument: "--model",
    });
  }
  // Names of the hub may be folders, too; those are looked for in the working folder first.
  const place = isAddress(values.model) || isHubId(values.model) ? "." : values.model;
  requireAccess(place, { kind: "read", purpose: "read the model" });
  const model = await resolveModel(values.model);
  const isSingleFile = isWeightsFile(model);
  const ema = values.ema || undefined;
  await checkModelChoice(values);
  if (ema && !isSingleFile) {
    throw new ArgumentError(`Cannot use --ema with ${values.model}: it applies to single files only`, {
      argument: "--ema",
    });
  }
  using bar = showProgress("loading", { total: 1, unit: "bytes" });
  const common = {
    localFilesOnly: values.offline || undefined, // undefined leaves the choice to HF_HUB_OFFLINE
    activations,
    arithmetic,
    tokenizer,
    vae,
    predictionType,
    signal: interruptSignal(),
    onProgress: (component: string, done: number, total: number) => bar.set(done, { total, note: component }),
  };
  if (isSingleFile) return await openCheckpoint(model, { ema, ...common });
  const safetyChecker = values.safetyChecker ? undefined : null;
  return await openCheckpoint(model, {
    variant,
    revision,
    safetyChecker,
    ...common,
  });
}

/** Applies the flags that configure a pipeline rather than a single call. */
export function applySampling(pipe: EditingPipeline, values: PictureValues): void {
  checkFamilyFlags(pipe, values);
  pipe.scheduler = samplerOf(values, pipe.scheduler);
  if (values.vaeTiling) pipe.enableVaeTiling();
}
