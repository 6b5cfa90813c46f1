/** What is recorded of a picture beside its settings, to draw it again to the byte. */

import type { AdapterSource } from "../pipeline/adapters/open_adapter.ts";
import type { PredictionType } from "../pipeline/checkpoint/ldm/config.ts";
import { pairRecords } from "../pipeline/editing/prompts/recipe.ts";
import {
  type ExactAdapter,
  type ExactComponent,
  type ExactEdit,
  exactEdits,
  type ExactSettings,
} from "../pipeline/generation/exact_settings.ts";
import { findLora } from "../pipeline/generation/tagged_loras.ts";
import type { PromptSyntax } from "../pipeline/generation/tokenized_prompts.ts";
import { generationText } from "../pipeline/image/generation_text.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { splitLoraTags } from "../pipeline/text/prompt_syntax/lora_tags.ts";
import { digestOf } from "./digest.ts";
import { type RecordedValues, recordOf } from "./draw_prompts.ts";
import { packageVersion } from "./version.ts";
import { parseWeightedFile } from "./weighted_file.ts";
import { xlSettings } from "./xl_flags.ts";

/** What differs between a command's flags and a picture of it. */
export interface RecordOptions {
  /** The sampler's name. Default: that of the flags. */
  readonly sampler?: string;
  /** The edits. Default: those on the pipeline's stack. */
  readonly edits?: readonly ExactEdit[];
}

/**
 * Makes the text of pictures, in the state that the pipeline has now.
 *
 * @param prompts those that the pictures are drawn from
 */
export async function pictureTexts(
  pipe: EditingPipeline,
  values: RecordedValues,
  prompts: readonly string[],
  { sampler, edits }: RecordOptions = {},
): Promise<(picture: { prompt: string; seed: number | bigint }) => Record<string, string>> {
  const record = { ...await recordOf(pipe, values), ...(sampler === undefined ? {} : { sampler }) };
  const exact = await exactRecords(pipe, values, prompts, edits);
  const pairs = edits?.flatMap(pairRecords);
  return (picture) =>
    generationText({ ...record, edits: pairs ?? record.edits, ...picture, exact: exact.get(picture.prompt) });
}

/** The record of each prompt's pictures. */
async function exactRecords(
  pipe: EditingPipeline,
  values: RecordedValues,
  prompts: readonly string[],
  edits: readonly ExactEdit[] | undefined,
): Promise<ReadonlyMap<string, ExactSettings>> {
  const { promptSyntax, loraDir, editNegativePrompt, vaeTiling, variant, revision, predictionType } = values;
  const components: ExactComponent[] = [];
  for (const name of ["vae", "tokenizer"] as const) {
    const file = values[name];
    if (file !== undefined) components.push({ name, file, sha256: await digestOf(file, name) });
  }
  const adapters: ExactAdapter[] = [];
  for (const file of values.textualInversion) {
    adapters.push({ kind: "textual inversion", file, sha256: await digestOf(file), weight: 1 });
  }
  for (const text of values.lora) {
    const { path: file, weight } = parseWeightedFile(text, "--lora", "FILE[:WEIGHT]");
    adapters.push({ kind: "lora", file, sha256: await digestOf(file), weight });
  }
  const xl = xlSettings(values);
  const common: Omit<ExactSettings, "adapters"> = {
    version: packageVersion,
    device: pipe.gpu.info.name,
    scheduler: { ...pipe.scheduler.config },
    promptSyntax: promptSyntax as PromptSyntax,
    loraDir,
    editNegativePrompt,
    vaeTiling,
    safetyChecker: pipe.safetyChecker !== undefined && pipe.safetyChecker !== null,
    variant,
    revision,
    components: components.length > 0 ? components : undefined,
    predictionType: predictionType as PredictionType | undefined,
    ema: values.ema || undefined,
    xl: Object.keys(xl).length > 0 ? xl : undefined,
    edits: edits ?? await exactEdits(pipe),
  };
  const records = new Map<string, ExactSettings>();
  for (const prompt of new Set(prompts)) {
    const named = await promptLoras(prompt, { promptSyntax, loraDir });
    records.set(prompt, { ...common, adapters: [...adapters, ...named] });
  }
  return records;
}

/** The LoRAs that a prompt names, with the hashes of their files. */
export async function promptLoras(
  prompt: string,
  { promptSyntax, loraDir }: { promptSyntax: string; loraDir: string | undefined },
): Promise<ExactAdapter[]> {
  if (promptSyntax !== "a1111" || loraDir === undefined) return [];
  return await Promise.all(
    splitLoraTags(prompt).loras.map(async ({ name, unetWeight }): Promise<ExactAdapter> => {
      const file: AdapterSource = await findLora(name, loraDir);
      return { kind: "prompt lora", file: String(file), sha256: await digestOf(String(file)), weight: unetWeight };
    }),
  );
}
