/**
 * An edit of a model: solved from prompt pairs, inspected, saved, and applied to pipelines.
 *
 * @module
 */

import type { Gpu } from "../../engine/gpu.ts";
import { inspectAs } from "../../engine/inspect.ts";
import { Tensor } from "../../engine/tensor.ts";
import { EditError } from "../errors.ts";
import type { ByteSink } from "../output/byte_sink.ts";
import { refuseSourceFile } from "../saving_place.ts";
import { checkOptions, kind, kinds, listOf, oneOf, type OptionTable } from "../options.ts";
import { type Alignment, defaultAugmentations } from "./prompts/alignment.ts";
import { readEdit, writeEdit } from "./edit_file.ts";
import { EditSystem, type EditSystemOptions } from "./solve/edit_system.ts";
import { chosenLayers, type EditableModel, encodeOnHost, type LayerChoice, layerChoiceKind } from "./editable_model.ts";
import { type LayerChange, relativeChanges } from "./layer_changes.ts";
import { type PredictedLeakage, predictLeakage } from "./leakage.ts";
import { exportLora, type LoraExportOptions, type LoraReport } from "./lora_export.ts";
import { EditOperator, type OperatorReport } from "./operator.ts";
import { checkProbe, endTokenEmbedding, probeText } from "./probe.ts";
import { alignedSentences, type EditPair, type EditRecipe, pairText, rowsOf, takePairs } from "./prompts/recipe.ts";

/** Options of {@linkcode ModelEdit.solve}. */
export interface ModelEditOptions extends EditSystemOptions {
  /**
   * Prompts whose embeddings the edit should not change: rows with dᵢ = cᵢ, the preservation term
   * of UCE (Gandikota et al., arXiv 2308.14761). Default: none.
   */
  readonly preserve?: readonly string[];
  /** Weight ωᵢ of the rows of preserved prompts. Default: 1. */
  readonly preserveWeight?: number;
  /**
   * Regularization λ of eq. 5: larger values change the model less. Default: 0.1, as in the paper.
   */
  readonly lamb?: number;
  /** Whether to edit the key projections as well as the value projections. Default: true. */
  readonly withToK?: boolean;
  /** Prefixes of the prompts; each gives every pair another sentence. Default: diffusers' three. */
  readonly withAugs?: readonly string[];
  /** Layers to edit, by prefixes of their paths or by a predicate. Default: all. */
  readonly layers?: LayerChoice;
}

/** The options of {@linkcode ModelEdit.solve} and their kinds. */
const modelEditTable: OptionTable<ModelEditOptions> = {
  preserve: listOf(kinds.text, "strings"),
  preserveWeight: kinds.number,
  lamb: kind("a number", (value) => typeof value === "number"),
  withToK: kinds.flag,
  withAugs: listOf(kinds.text, "strings"),
  layers: layerChoiceKind,
  route: oneOf("tokens", "channels"),
  precision: oneOf("f64", "f32"),
};

/** The solver's report, with the alignment of the prompts and the edited layers. */
export interface EditReport extends OperatorReport {
  /** Token alignment of each sentence; empty for a loaded edit. */
  readonly alignments: readonly Alignment[];
  /** Paths of the edited layers. */
  readonly layers: readonly string[];
}

/**
 * An edit of a model's implicit assumptions (TIME, arXiv 2303.08084): the operator E of {@linkcode
 * EditOperator}, the prompts it was solved from, and the layers it applies to.
 *
 * ```ts
 * const pair = { source: "A pack of roses", destination: "A pack of blue roses" };
 * using edit = await ModelEdit.solve([pair], { lamb: 0.1 }, pipe);
 * console.log(edit.rank, edit.report.residual, await edit.leakage(["a sunflower"]));
 * pipe.edits.push(edit);
 * ```
 */
export class ModelEdit implements Disposable {
  #recipe: EditRecipe;
  #operator: EditOperator;
  #report: EditReport;
  readonly #model: EditableModel;
  readonly #system: EditSystem | undefined;
  readonly #probe: Float32Array;

  private constructor(parts: {
    recipe: EditRecipe;
    operator: EditOperator;
    report: EditReport;
    model: EditableModel;
    system?: EditSystem;
    probe: Float32Array;
  }) {
    this.#recipe = parts.recipe;
    this.#operator = parts.operator;
    this.#report = parts.report;
    this.#model = parts.model;
    this.#system = parts.system;
    this.#probe = parts.probe;
  }

  /**
   * Solves an edit for one or more prompt pairs.
   *
   * Aligns each source token with a destination token, encodes all prompts, and solves eq. 5 with
   * the aligned embeddings as rows of C and D.
   *
   * @param model the model to edit, usually a `StableDiffusionModelEditingPipeline`
   * @throws {AlignmentError} when a source is not a subsequence of its destination and the pair
   *   gives no manual alignment
   * @throws {LambdaError} when λ is not a finite number above 0
   * @throws {IllConditionedError} when λ is too small for the solver's arithmetic
   * @throws {EditError} when there is no pair, a weight is out of range, or no layer matches
   */
  static async solve(
    pairs: readonly EditPair[],
    options: ModelEditOptions,
    model: EditableModel,
  ): Promise<ModelEdit> {
    checkOptions("edit", options, modelEditTable);
    return await ModelEdit.#solve(takePairs(pairs), { ...options }, model);
  }

  static async #solve(
    pairs: readonly EditPair[],
    options: ModelEditOptions,
    model: EditableModel,
  ): Promise<ModelEdit> {
    const {
      preserveWeight = 1,
      lamb = 0.1,
      withToK = true,
    } = options;
    const preserve = [...options.preserve ?? []], withAugs = [...options.withAugs ?? defaultAugmentations];
    const choice = Array.isArray(options.layers) ? [...options.layers] : options.layers;
    const sentences = alignedSentences(pairs, withAugs, model.tokenizer);
    const alignments = sentences.flatMap(({ destinations }) => destinations.map(({ alignment }) => alignment));
    const texts = alignments.flatMap(({ source, destination }) => [source, destination]);
    const encoded = await encodeOnHost(model, [...texts, ...preserve, probeText]);
    const layers = chosenLayers(model, encoded.width, choice);
    const rows = rowsOf(sentences, { prompts: preserve, weight: preserveWeight }, encoded);
    using cleanup = new DisposableStack();
    const system = cleanup.use(EditSystem.fromHost(model.gpu, rows, options));
    const operator = cleanup.use(await system.solve({ lamb }));
    const paths = layers.map(({ path }) => path);
    const all = paths.length === model.crossAttentions.length;
    const edit = new ModelEdit({
      recipe: { pairs, preserve, preserveWeight, lamb, withToK, withAugs, layers: all ? null : paths },
      operator,
      report: { ...operator.report!, alignments, layers: paths },
      model,
      system,
      probe: endTokenEmbedding(encoded.embeddings.get(probeText)!, encoded.width, model),
    });
    cleanup.move(); // the edit owns both now
    return edit;
  }

  /**
   * Loads an edit from a file that {@linkcode ModelEdit.save} wrote.
   *
   * @param source a path (Deno only), or the bytes of the file
   * @param options.anyModel Accept an edit that was solved with another text encoder. Default:
   *   false.
   * @throws {EditError} when the file is not an edit, was solved with another text encoder, or
   *   names layers that the model does not have
   */
  static async load(
    source: string | Uint8Array,
    model: EditableModel,
    options: { anyModel?: boolean } = {},
  ): Promise<ModelEdit> {
    checkOptions("load an edit", options, { anyModel: kinds.flag });
    const { anyModel = false } = options;
    const file = await readEdit(source);
    const { embeddings, width } = await encodeOnHost(model, [probeText]);
    const probe = endTokenEmbedding(embeddings.get(probeText)!, width, model);
    if (width !== file.width || !anyModel) checkProbe(file.probe, probe, file.name);
    const layers = chosenLayers(model, width, file.recipe.layers ?? undefined).map(({ path }) => path);
    const operator = new EditOperator(model.gpu.scope(() => ({
      left: Tensor.from(model.gpu, file.left, [file.rank, width]),
      right: file.right && Tensor.from(model.gpu, file.right, [file.rank, width]),
    })));
    const report = { ...file.report, alignments: [], layers };
    return new ModelEdit({ recipe: file.recipe, operator, report, model, probe });
  }

  /** E, on the model's device. The edit owns it and disposes it. */
  get operator(): EditOperator {
    return this.#operator;
  }

  /** Upper bound of the rank of E − I: the number of rows with dᵢ ≠ cᵢ after merging. */
  get rank(): number {
    return this.#operator.rank;
  }

  /** Size, conditioning and accuracy of the solution, with the alignment and the layers. */
  get report(): EditReport {
    return this.#report;
  }

  /** The prompts and options that the edit was solved from. */
  get recipe(): EditRecipe {
    return this.#recipe;
  }

  /** The device that holds the factors. */
  get gpu(): Gpu {
    return this.#operator.gpu;
  }

  /** The model that the edit was solved for, or loaded onto. */
  get model(): EditableModel {
    return this.#model;
  }

  /** Whether the edit applies to the keys or the values of a layer. */
  edits(layer: string, role: "keys" | "values"): boolean {
    return this.#report.layers.includes(layer) && (role === "values" || this.#recipe.withToK);
  }

  /**
   * Solves again for another λ, reusing the embeddings and the Gram matrix. Replaces the operator,
   * the report and the recipe's λ.
   *
   * @throws {EditError} for a loaded edit, which has only the factors
   * @throws {LambdaError} {IllConditionedError} as {@linkcode ModelEdit.solve} does
   */
  async resolve(options: { lamb: number }): Promise<EditReport> {
    checkOptions("solve an edit again", options, { lamb: kind("a number", (value) => typeof value === "number") });
    const { lamb } = options;
    if (!this.#system) {
      throw new EditError(
        "Cannot solve a loaded edit again: its file holds only the solution. Use ModelEdit.solve with its recipe",
      );
    }
    const operator = await this.#system.solve({ lamb });
    this.#operator[Symbol.dispose]();
    this.#operator = operator;
    this.#recipe = { ...this.#recipe, lamb };
    const { alignments, layers } = this.#report;
    return this.#report = { ...operator.report!, alignments, layers };
  }

  /** The leakage ‖X(E − I)ᵀ‖ / ‖X‖ of each prompt's embeddings X, without running the UNet. */
  async leakage(prompts: readonly string[]): Promise<number[]> {
    return (await this.predictLeakage(prompts)).map(({ leakage }) => leakage);
  }

  /**
   * Predicts the effect on prompts without running the UNet: the leakage, its ratio to the leakage
   * of the source prompts, and the most similar source prompt.
   *
   * @param options.warnAbove ratio above which `warning` is set. Default: 0.5.
   */
  async predictLeakage(
    prompts: readonly string[],
    options: { warnAbove?: number } = {},
  ): Promise<PredictedLeakage[]> {
    return await predictLeakage(this, prompts, options);
  }

  /** @deprecated Use {@linkcode ModelEdit.predictLeakage}. */
  async foretell(prompts: readonly string[], options: { warnAbove?: number } = {}): Promise<PredictedLeakage[]> {
    return await this.predictLeakage(prompts, options);
  }

  /**
   * How much the edit would change the weights of each layer: ‖W(E − I)‖ / ‖W‖. Costs about 2 ·
   * rank multiplications per weight.
   */
  async layerChanges(): Promise<LayerChange[]> {
    const { withToK } = this.#recipe;
    const layers = this.#model.crossAttentions.filter(({ path }) => this.#report.layers.includes(path));
    return await relativeChanges(this.#operator, layers, { withToK });
  }

  /**
   * Saves the edit as a safetensors file: the factors in f32, the recipe and the report as
   * metadata, and the embedding of a probe text that identifies the text encoder.
   *
   * ```ts
   * const parts: Uint8Array<ArrayBuffer>[] = []; // where there are no files, such as in a browser
   * await edit.save((chunk) => void parts.push(chunk.slice()));
   * const file = new Blob(parts);
   * ```
   *
   * @param target a path (Deno only), or a function that receives the file's bytes in order
   * @throws {OutputError} when the file cannot be written
   */
  async save(target: string | ByteSink): Promise<void> {
    using operator = this.#operator.share(); // the edit may be solved again or disposed of meanwhile
    const { width, rank, factors: { left, right } } = operator;
    const kept = { width, rank, probe: this.#probe, recipe: this.#recipe, report: this.#report };
    if (typeof target === "string") await refuseSourceFile(Object.values(this.#model.components ?? {}), target);
    const [p, q] = await Promise.all([left.data(), right?.data()]);
    await writeEdit(target, { ...kept, left: p, right: q });
  }

  /**
   * Exports ΔW = W(E − I) of every edited projection as a LoRA for diffusers, A1111 and ComfyUI.
   *
   * @param target a path (Deno only), or a function that receives the file's bytes in order
   * @returns the rank of the file and its truncation and rounding errors
   * @throws {EditError} when the rank is out of range or the edit changes nothing
   */
  async exportLora(
    target: string | ByteSink,
    options: LoraExportOptions = {},
    model: EditableModel = this.#model,
  ): Promise<LoraReport> {
    using operator = this.#operator.share(); // the edit may be solved again or disposed of meanwhile
    const { edits } = this;
    const held = { operator, edits: (layer: string, role: "keys" | "values") => edits.call(this, layer, role) };
    return await exportLora(target, [held], { ...options, model });
  }

  /** Frees the factors, and the system kept for {@linkcode ModelEdit.resolve}. */
  [Symbol.dispose](): void {
    this.#operator[Symbol.dispose]();
    this.#system?.[Symbol.dispose]();
  }
}

inspectAs(ModelEdit.prototype, (edit) => {
  if (!(edit instanceof ModelEdit)) return "ModelEdit";
  return `ModelEdit ${pairText(edit.recipe)}, rank ${edit.rank}, ${edit.report.layers.length} layers`;
});
