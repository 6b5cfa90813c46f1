/** Inspects edits, and holds them against a model. */

import { byteText, countText } from "../../engine/inspect.ts";
import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { advise } from "../advice.ts";
import { adaptableLayers } from "../checkpoint/bind.ts";
import { readConfig } from "../checkpoint/diffusers/config/fields.ts";
import { parseModelIndex } from "../checkpoint/diffusers/config/model_index.ts";
import { variantsOf } from "../checkpoint/diffusers/pipeline_files.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { componentTable } from "../component_table.ts";
import { type EditFile, readEdit } from "../editing/edit_file.ts";
import { type EditableSizes, fitEdit, widthsText } from "../editing/edit_fit.ts";
import { pairRecords } from "../editing/prompts/recipe.ts";
import { checkProbe, endTokenEmbedding, type Probe, probeText } from "../editing/probe.ts";
import type { SavedFactors } from "../editing/operator.ts";
import { encodeTexts } from "../generation/prompts.ts";
import { encodeXLTexts } from "../generation/xl_prompts.ts";
import { unetKind } from "../models/unet.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";
import type { ModelConfigs } from "../adapters/inspect_lora.ts";
import type { AdapterOptions } from "./adapter.ts";
import { failuresOf, type Inspection, messageOf } from "./report.ts";

const layerWord = "cross-attention layer";

/** What an edit changes, and why a model could not be edited by it. */
export async function inspectEdit(
  { name, bytes }: { name: string; bytes: Uint8Array },
  { model, probe }: Pick<AdapterOptions, "model" | "probe">,
): Promise<Pick<Inspection, "notes" | "problems">> {
  let file: EditFile & { readonly name: string };
  try {
    file = await readEdit(bytes, name);
  } catch (error) {
    return { notes: [], problems: [messageOf(error)] };
  }
  const { recipe, operators, probe: saved, pooled, report } = file;
  const method = recipe.method === undefined ? "" : `method ${recipe.method}, `;
  const rank = Math.max(...operators.map(({ factors }) => factors.rank));
  const count = operators.length > 1 ? `${countText(operators.length, "operator")}, ` : "";
  const taken = [...operators.map(({ factors }) => factors), ...pooled ? [pooled] : []];
  const notes = [
    `${method}${count}rank ${rank} in ${widthsText(saved.encoderWidths)} dimensions, lambda ${recipe.lamb}, ` +
    `relative size ${Number(report.relativeSize.toPrecision(3))}`,
    `takes ${byteText(taken.reduce((sum, factors) => sum + bytesOf(factors), 0))} on the device`,
    ...(pooled ? [`maps the pooled embedding of ${pooled.width} dimensions, too: rank ${pooled.rank}`] : []),
    ...pairRecords({ recipe, strength: 1 }).map(({ source, destination }) =>
      `${JSON.stringify(source)} -> ${JSON.stringify(destination)}`
    ),
  ];
  const projections = recipe.withToK ? "the keys and values" : "the values";
  const problems = model === undefined ? [] : await failuresOf(async () => {
    const sizes = sizesOf(model);
    const edited = fitEdit(file, sizes).flatMap(({ layers }) => layers);
    const own = await probe?.();
    if (own) checkProbe(saved, own, file.name);
    notes.push(
      `fits the model: changes ${projections} of ${edited.length} of its ` +
        countText(sizes.crossAttentions.length, layerWord),
      own
        ? "was solved with the model's text encoders"
        : "text encoders were not compared, which takes a model's folder and a device",
    );
  });
  if (model === undefined) {
    notes.push(
      `changes ${projections} of ${recipe.layers ? countText(recipe.layers.length, layerWord) : `all ${layerWord}s`}`,
    );
  }
  return { notes: [...notes, advise("loadEdit")], problems };
}

/** Bytes of an operator's factors on the device, which are f32. */
function bytesOf({ left, right }: SavedFactors): number {
  return 4 * (left.length + (right?.length ?? 0));
}

/** The sizes of a model by its configurations alone. */
function sizesOf({ unet, textEncoder, textEncoder2 }: ModelConfigs): EditableSizes {
  const { layers } = adaptableLayers((w) => unetKind.build(w, unet));
  const values = [...layers].filter(([path]) => path.endsWith(".attn2.to_v"));
  return {
    encoderWidths: [textEncoder, ...textEncoder2 ? [textEncoder2] : []].map(({ hiddenSize }) => hiddenSize),
    pooledWidth: textEncoder2?.projectionDim,
    crossAttentions: values.map(([path, { layer: { shape } }]) => ({
      path: path.replace(/\.to_v$/, ""),
      toV: { weight: { shape } },
    })),
  };
}

/**
 * Embeds the text by which edits know text encoders, with those of a folder in diffusers' layout.
 * Loads the text encoders alone.
 *
 * @throws {CheckpointError} for text encoders that would not load
 */
export async function probeOf(tree: FileTree, { gpu, variant }: { gpu: Gpu; variant?: string }): Promise<Probe> {
  const { family } = await readConfig(tree, "model_index.json", parseModelIndex);
  const variantOf = await variantsOf(tree, variant);
  const load = async <Key extends "tokenizer" | "tokenizer2" | "textEncoder" | "textEncoder2">(key: Key) => {
    const { folder, load } = componentTable[key];
    return await load(tree.subtree(folder), { gpu, variant: variantOf(folder) }) as Awaited<
      ReturnType<typeof componentTable[Key]["load"]>
    >;
  };
  const tokenizer = await load("tokenizer");
  using textEncoder = await load("textEncoder");
  if (family !== "sdxl") {
    using states = encodeTexts(tokenizer, textEncoder, [probeText]);
    return await probed(states, tokenizer, [textEncoder]);
  }
  const tokenizer2 = await load("tokenizer2");
  using textEncoder2 = await load("textEncoder2");
  using states = encodeXLTexts({ tokenizer, textEncoder, tokenizer2, textEncoder2 }, [probeText]);
  return await probed(states, tokenizer, [textEncoder, textEncoder2]);
}

async function probed(
  states: Tensor,
  tokenizer: CLIPTokenizer,
  encoders: readonly { readonly config: { readonly hiddenSize: number } }[],
): Promise<Probe> {
  const width = states.shape.at(-1)!;
  return {
    embedding: endTokenEmbedding(await states.data(), width, { tokenizer }),
    encoderWidths: encoders.map(({ config }) => config.hiddenSize),
  };
}
