/**
 * Exports edits as LoRA files. The change of a weight, ΔW = W(E − I) = (WPᵀ)Q, is already a product
 * of two thin matrices.
 */

import { EditError } from "../errors.ts";
import { checkOptions, kinds, oneOf, type OptionTable } from "../options.ts";
import type { TensorEntry } from "../checkpoint/safetensors/writer.ts";
import type { ByteSink } from "../output/byte_sink.ts";
import { checkOutput } from "../output/target.ts";
import { checkAdapterName, saveSafetensors } from "../checkpoint/save.ts";
import { refuseSourceFile } from "../saving_place.ts";
import { computedEntry, type SavedDtype } from "../checkpoint/safetensors/tensor_stream.ts";
import { composedBy, type LayerOperator } from "./edit_operators.ts";
import type { EditableModel } from "./editable_model.ts";
import {
  balanced,
  exactUpdates,
  f16Error,
  type Group,
  type Matrix,
  padded,
  truncatedUpdates,
  type Update,
} from "./lora_updates.ts";
import { EditOperator } from "./operator.ts";
import { widened } from "./widened.ts";

/** The module of {@linkcode EditableModel.pooledProjection} in diffusers' UNet. */
const pooledModule = "add_embedding.linear_1";

/** The key names of a LoRA file. */
export type LoraFormat = "diffusers" | "kohya";

/** Options of an export. */
export interface LoraExportOptions {
  /**
   * Maximum rank of each matrix's update. A lower rank minimizes the truncation error over all
   * matrices. Default: the exact rank.
   */
  readonly rank?: number;
  /** The dtype of the stored matrices. Default: "f32". */
  readonly dtype?: SavedDtype;
  /** A1111 and ComfyUI read "kohya"; diffusers reads both. Default: "kohya". */
  readonly format?: LoraFormat;
}

/** The options of an export and their kinds. */
const loraExportTable: OptionTable<LoraExportOptions & { model: EditableModel }> = {
  rank: kinds.number,
  dtype: oneOf("f32", "f16"),
  format: oneOf("diffusers", "kohya"),
  model: kinds.object,
};

/** Size and accuracy of an exported file. */
export interface LoraReport {
  /** Path of the file; `undefined` for bytes that were handed to a function. */
  readonly path?: string;
  /** Number of matrices that it changes. */
  readonly matrices: number;
  /** The largest rank of a matrix's update. */
  readonly rank: number;
  /** ‖ΔW − truncated ΔW‖ / ‖ΔW‖ over all matrices; 0 without truncation. */
  readonly truncationError: number;
  /** The relative error of rounding to f16, in the same norm; 0 in f32. */
  readonly roundingError: number;
}

/** The parts of an edit that an export reads. */
export interface ExportableEdit {
  /** The solved edit: one operator, or several with the layers of each. */
  readonly operators: readonly LayerOperator[];
  /** The solved edit of the pooled embedding, of edits `withPooled`. */
  readonly pooledOperator?: EditOperator;
  /** Whether the edit changes the keys or the values of a layer. */
  edits(layer: string, role: "keys" | "values"): boolean;
}

/**
 * Writes edits as one LoRA file.
 *
 * @param target a path (Deno only), or a function that receives the file's bytes in order
 * @param edits in the order in which they were pushed
 * @throws {EditError} when the rank is not a positive integer, no matrix changes, or an edit was
 *   solved for embeddings of another width
 * @throws {OutputError} when the file cannot be written, or its name does not end in .safetensors
 *   or .sft; told before the work
 */
export async function exportLora(
  target: string | ByteSink,
  edits: readonly ExportableEdit[],
  options: LoraExportOptions & { model: EditableModel },
): Promise<LoraReport> {
  const path = typeof target === "string" ? target : undefined;
  checkOptions(path === undefined ? "export a LoRA" : `export a LoRA to ${path}`, options, loraExportTable);
  const { rank, dtype = "f32", format = "kohya", model } = options;
  if (rank !== undefined && !(Number.isInteger(rank) && rank > 0)) {
    throw new EditError(`Cannot export a LoRA of rank ${rank} as the rank must be a whole number above 0`);
  }
  if (path !== undefined) {
    checkAdapterName(path);
    await refuseSourceFile(Object.values(model.components ?? {}), path);
    await checkOutput(path);
  }
  refuseForeign(edits, model);
  using owned = new DisposableStack();
  const groups = [...groupMatrices(edits, model, owned), ...pooledGroup(edits, model, owned)];
  const updates: Update[] = [];
  let lost = 0, total = 0;
  for (const group of groups) {
    const made = rank !== undefined && rank < group.operator.rank
      ? await truncatedUpdates(group, rank)
      : { updates: await exactUpdates(group), lost: 0, total: 1 };
    updates.push(...made.updates);
    lost += made.lost;
    total += made.total;
  }
  if (updates.length === 0) throw new EditError("Cannot export a LoRA as the edit changes no matrix");
  const largest = Math.max(...updates.map((update) => update.rank));
  // diffusers' format has no alpha. Its loader assumes one rank for all matrices, and would scale
  // matrices of any other rank.
  const equal = format === "diffusers" ? updates.map((update) => padded(update, largest)) : updates;
  const balancedUpdates = equal.map(balanced);
  const roundingError = dtype === "f16" ? await f16Error(model.gpu, balancedUpdates) : 0;
  await saveSafetensors(target, balancedUpdates.flatMap((update) => entries(update, dtype, format)), {
    metadata: {
      format: "pt",
      ss_network_module: "networks.lora",
      ss_network_dim: `${largest}`,
      ss_network_alpha: `${largest}`,
    },
  });
  return {
    path,
    matrices: updates.length,
    rank: largest,
    truncationError: Math.sqrt(lost / (total || 1)),
    roundingError,
  };
}

/** @throws {EditError} for an edit that was solved for embeddings of another width */
function refuseForeign(edits: readonly ExportableEdit[], { crossAttentions }: EditableModel): void {
  const [, width] = crossAttentions[0].toK.weight.dims(2);
  const foreign = edits.flatMap(({ operators }) => operators).find(({ operator }) => operator.width !== width);
  if (foreign === undefined) return;
  throw new EditError(
    `Cannot export a LoRA for this model as it reads embeddings of width ${width}, and the edit was solved for width ` +
      `${foreign.operator.width}: export it for the model that it was solved for, or solve it for this one`,
  );
}

/**
 * Groups the projection matrices by the edits that change them. The operators of several edits are
 * composed; `owned` takes ownership of the compositions.
 */
function groupMatrices(edits: readonly ExportableEdit[], model: EditableModel, owned: DisposableStack): Group[] {
  const places = model.crossAttentions.flatMap(({ path, toK, toV }) => [
    { layer: path, role: "keys", module: `${path}.to_k`, weight: toK.weight } as const,
    { layer: path, role: "values", module: `${path}.to_v`, weight: toV.weight } as const,
  ]);
  return composedBy(edits, places, owned).map(({ operator, places }) => ({
    operator,
    matrices: places.map(({ module, weight }): Matrix => ({ module, weight })),
  }));
}

/**
 * The layer that reads the pooled embedding, with the composed operators of the edits that map it,
 * if any. Its other columns stay.
 */
function pooledGroup(edits: readonly ExportableEdit[], model: EditableModel, owned: DisposableStack): Group[] {
  const operators = edits.flatMap(({ pooledOperator }) => pooledOperator?.rank ? [pooledOperator] : []);
  const { pooledProjection } = model;
  if (operators.length === 0 || pooledProjection === undefined) return [];
  const { weight } = pooledProjection;
  const { gpu } = weight;
  const composed = operators.reduce((all, next) => owned.use(all.compose(next)));
  const [, width] = weight.dims(2);
  const factors = gpu.scope(() => {
    const { left, right } = composed.thin();
    return { left: widened(left, width), right: widened(right, width) };
  });
  return [{ operator: owned.use(new EditOperator(factors)), matrices: [{ module: pooledModule, weight }] }];
}

function entries(update: Update, dtype: SavedDtype, format: LoraFormat): TensorEntry[] {
  const { module, up, down, features, rank, width } = update;
  const matrix = (name: string, shape: number[], values: Float32Array<ArrayBuffer>) =>
    computedEntry(name, shape, dtype, () => Promise.resolve(values));
  if (format === "diffusers") {
    return [
      matrix(`unet.${module}.lora.down.weight`, [rank, width], down),
      matrix(`unet.${module}.lora.up.weight`, [features, rank], up),
    ];
  }
  const name = `lora_unet_${module.replaceAll(".", "_")}`;
  return [
    matrix(`${name}.lora_down.weight`, [rank, width], down),
    matrix(`${name}.lora_up.weight`, [features, rank], up),
    // Loaders scale the update by alpha / rank.
    matrix(`${name}.alpha`, [], new Float32Array([rank])),
  ];
}
