/** Components on a null device, which take the memory that the device described would give them. */

import type { Gpu } from "../../engine/gpu.ts";
import { DDIMScheduler, isSchedulerClass, schedulerFromConfig } from "../../schedulers/mod.ts";
import { readConfig } from "../checkpoint/diffusers/config/fields.ts";
import { parseModelIndex } from "../checkpoint/diffusers/config/model_index.ts";
import { variantsOf } from "../checkpoint/diffusers/pipeline_files.ts";
import { partsOfFile, type SingleFile } from "../checkpoint/ldm/single_file.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { SurplusKeys } from "../checkpoint/surplus.ts";
import { entriesOf } from "../component_table.ts";
import type { PipelineComponents, XLPipelineComponents } from "../components.ts";
import type { CLIPTextConfig } from "../checkpoint/diffusers/config/clip.ts";
import { CLIPTextModel, textEncoderKind } from "../models/clip_text.ts";
import { CLIPTextModelWithProjection, projectedTextEncoderKind } from "../models/clip_text_projection.ts";
import { UNet2DConditionModel, unetKind } from "../models/unet.ts";
import type { ActivationType } from "../models/unet_blocks.ts";
import { AutoencoderKL, vaeKind } from "../models/vae.ts";
import { CLIPTokenizer } from "../text/tokenizer.ts";

/** A pipeline's components, and what the weights of each part take. */
export interface NullComponents {
  readonly components: PipelineComponents | XLPipelineComponents;
  /** Bytes on the device by part: "unet", "vae", … */
  readonly weights: Readonly<Record<string, number>>;
}

/** Loads components on a null device. */
export type LoadOnNull = (gpu: Gpu, options: { activations: ActivationType }) => Promise<NullComponents>;

/** Loads those of a folder in diffusers' layout. */
export function ofFolder(tree: FileTree, { variant }: { variant?: string }): LoadOnNull {
  return async (gpu, { activations }) => {
    const { components: classes, family } = await readConfig(tree, "model_index.json", parseModelIndex);
    const variantOf = await variantsOf(tree, variant);
    const surplus = new SurplusKeys(); // the inspection reports it
    const loaded: Record<string, unknown> = { scheduler: await schedulerOf(tree, classes.scheduler) };
    const weights: Record<string, number> = {};
    for (const [key, { folder, load }] of entriesOf(family)) {
      const className = classes[folder];
      if (className === null || folder === "scheduler" || folder.startsWith("tokenizer")) continue;
      const before = gpu.memory.live;
      const options = { gpu, activations, variant: variantOf(folder), surplus, className };
      loaded[key] = await load(tree.subtree(folder), options);
      if (gpu.memory.live > before) weights[folder] = gpu.memory.live - before;
    }
    return { components: withTokenizers(loaded), weights };
  };
}

/** Loads those of a single file. */
export function ofSingleFile(single: SingleFile): LoadOnNull {
  return async (gpu, { activations }) => {
    const configs = single.configs();
    const options = { gpu, activations, surplus: new SurplusKeys() };
    const loaded: Record<string, unknown> = { scheduler: schedulerFromConfig(configs.scheduler) };
    const weights: Record<string, number> = {};
    for (const part of partsOfFile(single.family)) {
      const name = `${single.name}, ${part}`;
      const before = gpu.memory.live;
      const file = single.part(part);
      if (part === "unet") {
        loaded.unet = await UNet2DConditionModel.fromWeights(unetKind.parseConfig(configs.unet, name), file, options);
      } else if (part === "vae") {
        loaded.vae = await AutoencoderKL.fromWeights(vaeKind.parseConfig(configs.vae, name), file, options);
      } else if (part === "text_encoder") {
        const config = textEncoderKind.parseConfig(configs.text_encoder, name);
        loaded.textEncoder = await CLIPTextModel.fromWeights(config, file, options);
      } else {
        const config = projectedTextEncoderKind.parseConfig(configs.text_encoder_2, name);
        loaded.textEncoder2 = await CLIPTextModelWithProjection.fromWeights(config, file, options);
      }
      weights[part] = gpu.memory.live - before;
    }
    return { components: withTokenizers(loaded), weights };
  };
}

/** The folder's scheduler. One of an unknown class cannot draw: another takes its place. */
async function schedulerOf(tree: FileTree, className: string | null): Promise<unknown> {
  if (className === null || !isSchedulerClass(className)) return new DDIMScheduler();
  const config = await tree.subtree("scheduler").readJson("scheduler_config.json") as Record<string, unknown>;
  return schedulerFromConfig({ ...config, _class_name: className });
}

/** Adds tokenizers that know no word: what is encoded does not change the memory taken. */
function withTokenizers(loaded: Readonly<Record<string, unknown>>): NullComponents["components"] {
  const { textEncoder, textEncoder2 } = loaded as Partial<XLPipelineComponents>;
  const all = {
    ...loaded,
    ...(textEncoder ? { tokenizer: wordless(textEncoder.config) } : {}),
    ...(textEncoder2 ? { tokenizer2: wordless(textEncoder2.config) } : {}),
  };
  return all as unknown as NullComponents["components"];
}

function wordless({ vocabSize, maxPositionEmbeddings }: CLIPTextConfig): CLIPTokenizer {
  return new CLIPTokenizer({
    vocab: { "<|startoftext|>": vocabSize - 2, "<|endoftext|>": vocabSize - 1 },
    merges: "#version: 0.2",
    config: { model_max_length: maxPositionEmbeddings },
  });
}
