/**
 * The model of a sweep and the pictures that it keeps.
 *
 * @module
 */
import { pictureName } from "../pipeline/evaluation/sweep/picture_files.ts";
import type { SweepPlan } from "../pipeline/evaluation/sweep/plan.ts";
import type { ScoredPicture } from "../pipeline/evaluation/sweep/run.ts";
import { exactEdits } from "../pipeline/generation/exact_settings.ts";
import { encodePicture } from "../pipeline/image/picture.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { writeBytes } from "../pipeline/output/file.ts";
import { pictureTexts } from "./exact_record.ts";
import { openPipeline } from "./open_pipeline.ts";
import { noXLValues } from "./xl_flags.ts";

/** Opens the model that a plan names. */
export async function openSweepModel(plan: SweepPlan, offline: boolean): Promise<EditingPipeline> {
  return await openPipeline(valuesOf(plan, offline));
}

/** Writes the pictures of a batch, with all that is needed to draw them again. */
export async function saveSweepPictures(
  folder: string,
  { pipe, plan, scored, offline }: {
    pipe: EditingPipeline;
    plan: SweepPlan;
    scored: readonly ScoredPicture[];
    offline: boolean;
  },
): Promise<void> {
  for (const { picture, result, drawn, edit } of scored) {
    const edits = await exactEdits({ edits: edit ? [{ edit, strength: 1, enabled: true }] : [] });
    const textOf = await pictureTexts(pipe, valuesOf(plan, offline), [drawn], { edits });
    const text = textOf({ prompt: drawn, seed: result.seed });
    const bluerose = JSON.stringify({ ...JSON.parse(text.bluerose), sweep: result });
    const bytes = await encodePicture(picture, "png", { text: { ...text, bluerose } });
    await writeBytes(`${folder}/${pictureName(plan, result)}`, bytes);
  }
}

/** The plan's settings as flags have them. */
function valuesOf(
  { model, variant, pins: { revision }, samplingMethod, steps, cfgScale }: SweepPlan,
  offline: boolean,
) {
  return {
    model,
    variant,
    revision,
    offline,
    tokenizer: undefined,
    vae: undefined,
    predictionType: undefined,
    ema: false,
    safetyChecker: false,
    activations: "f32" as const,
    arithmetic: "f32" as const,
    lora: [],
    textualInversion: [],
    negativePrompt: "",
    promptSyntax: "plain" as const,
    loraDir: undefined,
    editNegativePrompt: true,
    width: undefined,
    height: undefined,
    steps,
    cfgScale,
    samplingMethod,
    scheduler: undefined,
    clipSkip: 0,
    vaeTiling: false,
    ...noXLValues,
  };
}
