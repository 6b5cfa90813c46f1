/**
 * Lists the files of a checkpoint in diffusers' layout that a pipeline loads. Only these have to be
 * downloaded.
 */

import { CheckpointError } from "../../errors.ts";
import { isDenied } from "../source/byte_source.ts";
import type { FileTree } from "../source/file_tree.ts";
import { type ComponentName, readModelIndex } from "./config/model_index.ts";
import { listVariants, weightFiles, type WeightsBaseName } from "../safetensors/weight_files.ts";

/** The files of a part. */
interface PartFiles {
  readonly needed: readonly string[];
  /** Files that do in place of the needed ones. */
  readonly otherwise?: readonly string[];
  readonly optional?: readonly string[];
  /** The base name of its weights. */
  readonly weights?: WeightsBaseName;
}

const tokenizerFiles: PartFiles = {
  needed: ["vocab.json", "merges.txt"],
  otherwise: ["tokenizer.json"],
  optional: ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
};

const filesOf: Readonly<Record<ComponentName, PartFiles>> = {
  unet: { needed: ["config.json"], weights: "diffusion_pytorch_model" },
  vae: { needed: ["config.json"], weights: "diffusion_pytorch_model" },
  text_encoder: { needed: ["config.json"], weights: "model" },
  text_encoder_2: { needed: ["config.json"], weights: "model" },
  safety_checker: { needed: ["config.json"], weights: "model" },
  tokenizer: tokenizerFiles,
  tokenizer_2: tokenizerFiles,
  scheduler: { needed: ["scheduler_config.json"] },
  feature_extractor: { needed: ["preprocessor_config.json"] },
};

/**
 * Chooses the variant of each part of a folder. As in diffusers, a part without the requested
 * variant is loaded in its default precision. If no part has it, it stays requested for all of
 * them, so that loading fails.
 */
export async function variantsOf(
  tree: FileTree,
  variant: string | undefined,
): Promise<(part: ComponentName) => string | undefined> {
  const having = new Set<ComponentName>();
  for (const name of Object.keys(filesOf) as ComponentName[]) {
    const { weights } = filesOf[name];
    if (variant === undefined || weights === undefined) continue;
    const variants: readonly (string | undefined)[] = await listVariants(tree.subtree(name), weights)
      .catch((error) => {
        if (isDenied(error)) throw error;
        return []; // a missing folder has none
      });
    if (variants.includes(variant)) having.add(name);
  }
  return (part) => having.size === 0 || having.has(part) ? variant : undefined;
}

/**
 * The paths of all files that a pipeline loads: configurations, vocabularies, and each model's
 * weights once.
 *
 * As in diffusers, a part without the requested variant contributes its default weights. At least
 * one part must have the variant.
 *
 * @param options.without Parts to leave out, such as an unused safety checker.
 * @throws {ConfigError} if `model_index.json` belongs to an unsupported pipeline.
 * @throws {CheckpointError} if a file is missing, a part has only pickles, or no part has the
 *   variant.
 */
export async function pipelineFiles(
  tree: FileTree,
  options: { variant?: string; without?: readonly ComponentName[] } = {},
): Promise<string[]> {
  const { variant, without = [] } = options;
  const { components } = await readModelIndex(tree, { without });
  const names = (Object.keys(filesOf) as ComponentName[])
    .filter((name) => components[name] !== null && !without.includes(name));

  const paths = ["model_index.json"];
  let hasVariant = variant === undefined;
  for (const name of names) {
    const { needed, otherwise, optional = [], weights } = filesOf[name];
    const folder = tree.subtree(name);
    const missing = await lacking(folder, needed);
    const isOther = missing !== undefined && otherwise !== undefined && await lacking(folder, otherwise) === undefined;
    if (missing !== undefined && !isOther) {
      throw new CheckpointError(`Cannot load ${tree.name} as it has no ${name}/${missing}`, { source: tree.name });
    }
    const files = [...isOther ? otherwise : needed];
    for (const path of optional) if (await folder.has(path)) files.push(path);
    if (weights !== undefined) {
      const isThere = variant !== undefined && (await listVariants(folder, weights)).includes(variant);
      hasVariant ||= isThere;
      for (const path of await weightFiles(folder, weights, isThere ? { variant } : {})) files.push(path);
    }
    for (const file of files) paths.push(`${name}/${file}`);
  }
  if (!hasVariant) {
    throw new CheckpointError(
      `Cannot load ${tree.name} as none of its parts has weights in the variant ${JSON.stringify(variant)}`,
      { source: tree.name },
    );
  }
  return paths;
}

/** The first of some files that a folder lacks. */
async function lacking(folder: FileTree, paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) if (!await folder.has(path)) return path;
  return undefined;
}
