/** What `generate` records of a picture beside its settings, to draw it again to the byte. */

import type { AdapterSource } from "../pipeline/adapters/open_adapter.ts";
import { type ExactAdapter, exactEdits, type ExactSettings, sha256 } from "../pipeline/generation/exact_settings.ts";
import { findLora } from "../pipeline/generation/tagged_loras.ts";
import type { PromptSyntax } from "../pipeline/generation/tokenized_prompts.ts";
import type { StableDiffusionModelEditingPipeline } from "../pipeline/model_editing.ts";
import { splitLoraTags } from "../pipeline/text/prompt_syntax/lora_tags.ts";
import type { ModelValues, PictureValues } from "./flags.ts";
import { packageVersion } from "./version.ts";
import { parseWeightedFile } from "./weighted_file.ts";

/** The record of each prompt's pictures. */
export async function exactRecords(
  pipe: StableDiffusionModelEditingPipeline,
  values: PictureValues & ModelValues,
  prompts: readonly string[],
): Promise<ReadonlyMap<string, ExactSettings>> {
  const { promptSyntax, loraDir, editNegativePrompt, vaeTiling, variant, revision, vae, tokenizer } = values;
  const adapters: ExactAdapter[] = [];
  for (const file of values.textualInversion) {
    adapters.push({ kind: "textual inversion", file, sha256: await fileDigest(file), weight: 1 });
  }
  for (const text of values.lora) {
    const { path: file, weight } = parseWeightedFile(text, "--lora", "FILE[:WEIGHT]");
    adapters.push({ kind: "lora", file, sha256: await fileDigest(file), weight });
  }
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
    vae,
    tokenizer,
    ema: values.ema || undefined,
    edits: await exactEdits(pipe),
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
      return { kind: "prompt lora", file: String(file), sha256: await fileDigest(String(file)), weight: unetWeight };
    }),
  );
}

/** SHA-256 of a file; undefined for a folder or a model of the hub. */
export async function fileDigest(path: string): Promise<string | undefined> {
  const isFile = await Deno.stat(path).then(({ isFile }) => isFile, () => false);
  return isFile ? await sha256(await Deno.readFile(path)) : undefined;
}
