/** The edits of a pipeline: what editing pipelines of all model families share. */

import { GpuError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import type { CallShape, EmbeddingsEdit } from "../generation/call.ts";
import { checkOptions, kind, kinds, listOf, type OptionTable } from "../options.ts";
import type { BakedWeights } from "../saving.ts";
import { type EditableModel, type LayerChoice, layerChoiceKind } from "./editable_model.ts";
import { EditSnapshot } from "./edit_snapshot.ts";
import { EditStack } from "./edit_stack.ts";
import { type EditChoice, editsPerRow } from "./edits_per_row.ts";
import type { ModelEditOptions } from "./edit_options.ts";
import type { EditReport } from "./edit_report.ts";
import { ModelEdit } from "./model_edit.ts";
import { pairText } from "./prompts/recipe.ts";

/** How an editing pipeline's `editModel` edits unless told otherwise. */
export interface EditDefaults {
  /** Edit the projections to keys as well as those to values. Default: true. */
  readonly withToK?: boolean;
  /** Texts put before both prompts, each giving another pair. Default: diffusers' three. */
  readonly withAugs?: readonly string[];
}

/** Options of an editing pipeline's `editModel`. */
export interface EditModelOptions {
  /** λ of eq. 5: how firmly everything else is held. Default: 0.1. */
  readonly lamb?: number;
  /** Take earlier edits off first; otherwise the edited model is edited. Default: true. */
  readonly restartParams?: boolean;
  /** Layers to edit: prefixes of their paths, or a function. Default: all. */
  readonly layers?: LayerChoice;
  /** Prompts to keep as they are. Default: none. */
  readonly preserve?: readonly string[];
  /** See {@linkcode ModelEditOptions.withPooled}. Default: false. */
  readonly withPooled?: boolean;
  /** See {@linkcode ModelEditOptions.signal}; earlier edits then stay. */
  readonly signal?: AbortSignal;
}

/** The options of `editModel` and their kinds. */
const editModelTable: OptionTable<EditModelOptions> = {
  lamb: kind("a number", (value) => typeof value === "number"),
  restartParams: kinds.flag,
  layers: layerChoiceKind,
  preserve: listOf(kinds.text, "strings"),
  withPooled: kinds.flag,
  signal: kinds.signal,
};

const editLists = listOf(listOf(kind("an edit", (value) => value instanceof ModelEdit), "edits"), "lists of edits");

/** The options of `generate` that choose edits, and their kinds. */
export const editChoiceTable: OptionTable<EditChoice<ModelEdit>> = {
  editsPerPrompt: editLists,
  editsPerNegativePrompt: editLists,
  editNegativePrompt: kinds.flag,
};

/** The edits of one pipeline, and what they do to its calls and its saved weights. */
export class PipelineEdits implements Disposable {
  /** The edits in force, and their order. */
  readonly stack: EditStack<ModelEdit> = new EditStack();
  readonly #model: EditableModel;
  readonly #defaults: EditDefaults;
  /**
   * Edits made by {@linkcode editModel}, which are freed here. The caller frees edits that it has
   * pushed itself.
   */
  readonly #own = new Set<ModelEdit>();
  #disposed = false;

  /** @param model the pipeline */
  constructor(model: EditableModel, { withToK = true, withAugs }: EditDefaults) {
    this.#model = model;
    this.#defaults = { withToK, withAugs };
  }

  /**
   * Solves an edit for one pair, and pushes it: see the pipelines' `editModel`.
   *
   * @throws {GpuError} for a pipeline that is disposed of, also meanwhile
   */
  async editModel(source: string, destination: string, options: EditModelOptions): Promise<EditReport> {
    this.#refuseDisposed();
    checkOptions("edit the model", options, editModelTable);
    const { lamb = 0.1, restartParams = true, layers, preserve, withPooled, signal } = options;
    const settings: ModelEditOptions = { lamb, layers, preserve, withPooled, signal, ...this.#defaults };
    const edit = await ModelEdit.solve([{ source, destination }], settings, this.#model);
    if (this.#disposed) edit[Symbol.dispose]();
    this.#refuseDisposed();
    if (restartParams) this.reset();
    this.#own.add(edit);
    this.stack.push(edit);
    return edit.report;
  }

  /** Removes all edits, and frees those of {@linkcode editModel}. */
  reset(): void {
    this.stack.clear();
    for (const edit of this.#own) edit[Symbol.dispose]();
    this.#own.clear();
  }

  /** Removes all edits for good: those that are being solved are freed, too. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    this.reset();
  }

  #refuseDisposed(): void {
    if (this.#disposed) throw new GpuError("Cannot edit the model of a pipeline after it was disposed");
  }

  /** The edits as the pipeline's description shows them. */
  describe(): string {
    const edits = this.stack.entries.map(({ edit, strength, enabled }) =>
      `\n  edit ${pairText(edit.recipe)}, strength ${strength}${enabled ? "" : ", disabled"}`
    );
    return edits.length > 0 ? edits.join("") : ", no edits";
  }

  /** How the current edits change the prompt's embeddings; undefined without edits. */
  embeddingsEdit(choice: EditChoice<ModelEdit>, shape: CallShape): EmbeddingsEdit | undefined {
    const rows = editsPerRow(choice, shape);
    const snapshot = new EditSnapshot<ModelEdit>(this.stack);
    try {
      snapshot.checkKnown(choice.editsPerPrompt?.flat() ?? [], "editsPerPrompt");
      snapshot.checkKnown(choice.editsPerNegativePrompt?.flat() ?? [], "editsPerNegativePrompt");
    } catch (error) {
      snapshot[Symbol.dispose]();
      throw error;
    }
    if (snapshot.stack.length === 0) return undefined;
    return {
      key: [...snapshot.key, ...rows.flatMap((edits) => ["row", ...edits])],
      apply: (embeddings) => snapshot.editedStates(embeddings, rows),
      applyPooled: (pooled) => snapshot.editedPooled(pooled, rows),
      release: () => snapshot[Symbol.dispose](),
    };
  }

  /** The weights of the layers with the edits multiplied in, as the edits stand now. */
  bakedWeights(): BakedWeights {
    const snapshot = new EditSnapshot(this.stack);
    const { crossAttentions, pooledProjection } = this.#model;
    return {
      pooledProjection: (merged) => {
        if (pooledProjection === undefined) return undefined;
        using weight = standIn(pooledProjection.weight, merged);
        return snapshot.stack.bakePooled(weight);
      },
      weight: (layerPath, projection, merged) => {
        const role = projection === "to_k" ? "keys" : "values";
        const layer = crossAttentions.find(({ path }) => path === layerPath);
        const touched = [...snapshot.stack].some(({ edit, strength }) => strength !== 0 && edit.edits(layerPath, role));
        if (!layer || !touched) return undefined;
        using weight = standIn((role === "keys" ? layer.toK : layer.toV).weight, merged);
        return snapshot.stack.bake(weight, layerPath, role);
      },
      [Symbol.dispose]: () => snapshot[Symbol.dispose](),
    };
  }
}

/** A weight with LoRAs merged into it, or a view of the layer's own. The caller disposes of it. */
function standIn(weight: Tensor, merged: Float32Array<ArrayBuffer> | undefined): Tensor {
  return merged ? Tensor.from(weight.gpu, merged, weight.shape) : weight.reshape(weight.shape);
}
