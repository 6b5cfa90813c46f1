/** Inspects single files: checkpoints, LoRAs, textual inversions and edits. */

import { advise } from "../advice.ts";
import { isEditFormat } from "../editing/edit_file.ts";
import { type ByteSource, readAll } from "../checkpoint/source/byte_source.ts";
import { isPickle, pickleMessage } from "../checkpoint/source/pickle.ts";
import { canonicalWeights } from "../checkpoint/ldm/canonical.ts";
import { describeSurplus } from "../checkpoint/surplus.ts";
import { readVaeFile } from "../checkpoint/vae_file.ts";
import { autoencoderKind } from "../models/autoencoder.ts";
import { recognizeCheckpoint } from "../checkpoint/diffusers/checkpoint_kind.ts";
import { SafetensorsFile } from "../checkpoint/safetensors/safetensors_file.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import { partsOfFile, SingleFile, type SingleFileOptions, type SingleFilePart } from "../checkpoint/ldm/single_file.ts";
import { textEncoderKind } from "../models/clip_text.ts";
import { projectedTextEncoderKind } from "../models/clip_text_projection.ts";
import { checkModel, type ModelKind } from "../models/load.ts";
import { unetKind } from "../models/unet.ts";
import { vaeKind } from "../models/vae.ts";
import { type AdapterOptions, inspectLoraFile, inspectTextualInversion } from "./adapter.ts";
import { inspectEdit } from "./edit.ts";
import { ofSingleFile } from "./null_components.ts";
import {
  type AskedMemory,
  contentsOf,
  failuresOf,
  type Inspection,
  memoryNote,
  memoryOf,
  messageOf,
  noWeights,
  type PartInspection,
} from "./report.ts";

/**
 * Inspects a file: a single-file checkpoint, a LoRA, a textual inversion or an edit.
 *
 * @param source closed by this function
 * @param options as for `fromSingleFile`, what adapters and edits are held against, and what to
 *   predict the memory of drawing for. Default: no prediction.
 */
export async function inspectFile(
  source: ByteSource,
  options: SingleFileOptions & AdapterOptions & { memory?: AskedMemory } = {},
): Promise<Inspection> {
  const { name } = source;
  const only = (description: string, rest: Partial<Inspection> = {}): Inspection => ({
    name,
    description,
    parts: [],
    problems: [],
    notes: [],
    ...rest,
  });
  if (isPickle(name)) {
    source.close?.();
    return only("a pickle", { problems: [pickleMessage(name)] });
  }
  let weights: SafetensorsFile;
  try {
    weights = await SafetensorsFile.open(source);
  } catch (error) { // open() has closed the file
    return only("not a safetensors file, or a damaged one", { problems: [messageOf(error)] });
  }
  using file = canonicalWeights(weights);
  const { family, description, advice } = recognizeCheckpoint(file);
  const whole: PartInspection = {
    ...noWeights,
    ...contentsOf(file),
    part: "",
    kind: "",
    bytes: source.size,
    problems: [],
  };
  if (isEditFormat(file.metadata.format)) {
    const edit = await inspectEdit({ name, bytes: await readAll(source) }, options);
    return only("an edit of Blue Rose", { parts: [whole], ...edit });
  }
  if (family !== "other") {
    const title = `${description} (single file)`;
    try {
      return only(title, { ...await inspectSingleFile(source, options) });
    } catch (error) {
      return only(title, { parts: [whole], problems: [messageOf(error)] });
    }
  }
  let problems: string[] = [], notes = advice === undefined ? [] : [advice];
  if (description === "a LoRA" || description === "a textual inversion") {
    const adapter = description === "a LoRA"
      ? await inspectLoraFile(file, options)
      : await inspectTextualInversion(file, options);
    notes = [...adapter.notes, ...notes];
    problems = [...adapter.problems];
  } else if (/autoencoder/.test(description)) {
    return only(description, { parts: [await inspectVae(file, whole)], notes });
  } else {
    problems.push(`Cannot load ${name} as it is ${description}${advice === undefined ? "" : `; ${advice}`}`);
  }
  return only(description, { parts: [whole], problems, notes });
}

/** An autoencoder in a file of its own, checked as the option `vae` loads it. */
async function inspectVae(file: Weights, whole: PartInspection): Promise<PartInspection> {
  let kind = "";
  const problems = await failuresOf(() => {
    const { className, config, weights } = readVaeFile(file);
    kind = className;
    const model = autoencoderKind(className);
    checkModel(model, model.parseConfig(config, `${file.name}, vae`), weights);
  });
  return { ...whole, kind, problems };
}

async function inspectSingleFile(
  source: ByteSource,
  options: SingleFileOptions & { memory?: AskedMemory },
): Promise<Pick<Inspection, "parts" | "problems" | "notes" | "memory">> {
  // The caller closes the file.
  const { name, size } = source;
  const single = await SingleFile.open({ name, size, read: source.read }, options);
  const configs = single.configs();
  const kinds: Record<SingleFilePart, ModelKind<unknown, unknown>> = {
    unet: unetKind,
    vae: vaeKind,
    text_encoder: textEncoderKind,
    text_encoder_2: projectedTextEncoderKind,
  };
  const parts: PartInspection[] = [];
  const surplus = single.surplus();
  for (const part of partsOfFile(single.family)) {
    const kind = kinds[part];
    const weights = single.part(part);
    const contents = contentsOf(weights);
    const problems = await failuresOf(() => {
      const config = kind.parseConfig(configs[part], `${name}, ${part}`);
      for (const key of checkModel(kind, config, weights)) surplus.push(key);
    });
    parts.push({ part, kind: kind.className, ...contents, variants: [], problems });
  }
  const { failures: problems = [], ...memory } = await memoryOf(
    { parts, problems: [] },
    () => ofSingleFile(single),
    options.memory,
  );
  const weights = memory.memory ? undefined : memoryNote(parts);
  const predicts = single.predictionType ?? "noise or v (determined when it is loaded)";
  return {
    parts,
    notes: [
      ...(weights === undefined ? [] : [`its ${weights}`]),
      `it predicts ${predicts}`,
      `it has no tokenizer: loading uses the one in the hub's cache; for another, ${advise("giveTokenizer")}`,
      ...(surplus.length > 0 ? [`it holds ${describeSurplus(surplus)}`] : []),
    ],
    problems,
    ...memory,
  };
}
