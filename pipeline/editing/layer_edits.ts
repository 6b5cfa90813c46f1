/**
 * Edits with an operator of its own for each layer: one `ModelEdit` a layer, kept together.
 *
 * @module
 */

import type { ByteSink } from "../output/byte_sink.ts";
import { EditError } from "../errors.ts";
import { chosenLayers, type EditableModel, encodeOnHost } from "./editable_model.ts";
import type { EditStack } from "./edit_stack.ts";
import { exportLora, type LoraExportOptions, type LoraReport } from "./lora_export.ts";
import { ModelEdit, type ModelEditOptions } from "./model_edit.ts";
import { probeText } from "./probe.ts";
import type { EditPair } from "./prompts/recipe.ts";

/**
 * Solves an edit for each layer by itself, as null-space edits with `influenceFilter` or `augment`
 * need: the retained concepts that such an edit refines depend on the layer's weights. Edits of
 * other kinds are the same in all layers, and need no set.
 *
 * ```ts ignore
 * const options = { method: "nullspace", preserve, influenceFilter: true, augment: 10 } as const;
 * using set = await solveLayerEdits([{ source: "a rose", destination: "" }], options, pipe);
 * set.pushOn(pipe.edits);
 * await set.exportLora("rose.safetensors");
 * set.removeFrom(pipe.edits);
 * ```
 *
 * @param options.layers the layers to edit. Default: all
 * @throws {EditError} with `withPooled`; otherwise as `ModelEdit.solve` does
 */
export async function solveLayerEdits(
  pairs: readonly EditPair[],
  options: ModelEditOptions,
  model: EditableModel,
): Promise<LayerEdits> {
  if (options.withPooled) {
    throw new EditError(
      "Cannot map the pooled embedding by edits of one layer each, as it belongs to no layer: leave withPooled out",
    );
  }
  const { width } = await encodeOnHost(model, [probeText]);
  using owned = new DisposableStack();
  const edits: ModelEdit[] = [];
  for (const { path } of chosenLayers(model, width, options.layers)) {
    edits.push(owned.use(await ModelEdit.solve(pairs, { ...options, layers: (each) => each === path }, model)));
  }
  owned.move(); // the set owns them now
  return new LayerEdits(edits);
}

/** Edits of one layer each, which are applied, exported and undone together. */
export class LayerEdits implements Disposable {
  /** One edit for each layer, in the checkpoint's order. Each can be saved by itself. */
  readonly edits: readonly ModelEdit[];

  /**
   * Takes ownership of the edits.
   *
   * @throws {EditError} when there is none, or two of them edit a layer
   */
  constructor(edits: readonly ModelEdit[]) {
    const layers = edits.flatMap(({ report }) => report.layers);
    if (edits.length === 0 || new Set(layers).size < layers.length) {
      throw new EditError(
        `Cannot keep ${edits.length} edits of ${layers.length} layers together: there must be one or more, of different layers`,
      );
    }
    this.edits = [...edits];
  }

  /** Adds all edits to a stack. As they edit different layers, their order does not matter. */
  pushOn(stack: EditStack<ModelEdit>, options: { strength?: number } = {}): void {
    for (const edit of this.edits) stack.push(edit, options);
  }

  /** Removes all edits from a stack, which undoes them exactly. */
  removeFrom(stack: EditStack<ModelEdit>): void {
    for (const edit of this.edits) stack.remove(edit);
  }

  /**
   * Exports ΔW = W(E − I) of every projection, each with its layer's operator, as one LoRA.
   *
   * @param target a path (Deno only), or a function that receives the file's bytes in order
   * @throws {EditError} when the rank is out of range or nothing changes
   */
  async exportLora(target: string | ByteSink, options: LoraExportOptions = {}): Promise<LoraReport> {
    return await exportLora(target, this.edits, { ...options, model: this.edits[0].model });
  }

  /** Frees the edits. */
  [Symbol.dispose](): void {
    for (const edit of this.edits) edit[Symbol.dispose]();
  }
}
