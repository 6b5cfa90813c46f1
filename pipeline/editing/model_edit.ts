/**
 * An edit of a model: solved from prompt pairs, inspected, saved, and applied to pipelines.
 *
 * @module
 */

import { GpuError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { countText, inspectAs } from "../../engine/inspect.ts";
import { EditError } from "../errors.ts";
import type { ByteSink } from "../output/byte_sink.ts";
import { refuseSourceFile } from "../saving_place.ts";
import { checkArgument, checkOptions, kind, kinds } from "../options.ts";
import { checkMethod } from "./prompts/method.ts";
import { readEdit, writeEdit } from "./edit_file.ts";
import { fitEdit } from "./edit_fit.ts";
import { editableKind, type EditableModel, encodeOnHost, pooledEncoder } from "./editable_model.ts";
import { type LayerChange, relativeChanges } from "./layer_changes.ts";
import { type PredictedLeakage, predictLeakage } from "./leakage.ts";
import { exportLora, type LoraExportOptions, type LoraReport } from "./lora_export.ts";
import {
  disposeOf,
  downloaded,
  type LayerOperator,
  type Operators,
  sharesOf,
  type Solvable,
  solveAll,
  uploaded,
} from "./edit_operators.ts";
import type { EditOperator, OperatorReport } from "./operator.ts";
import { prepareEdit } from "./prepare_edit.ts";
import { type ModelEditOptions, modelEditTable } from "./edit_options.ts";
import type { EditReport } from "./edit_report.ts";
import { checkProbe, endTokenEmbedding, probeText } from "./probe.ts";
import { type EditPair, type EditRecipe, pairText, takePairs } from "./prompts/recipe.ts";

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
  #operators: Operators;
  #report: EditReport;
  readonly #model: EditableModel;
  readonly #solvable: Solvable | undefined;
  readonly #probe: Float32Array;
  #disposed = false;

  private constructor(parts: {
    recipe: EditRecipe;
    operators: Operators;
    report: EditReport;
    model: EditableModel;
    solvable?: Solvable;
    probe: Float32Array;
  }) {
    this.#recipe = parts.recipe;
    this.#operators = parts.operators;
    this.#report = parts.report;
    this.#model = parts.model;
    this.#solvable = parts.solvable;
    this.#probe = parts.probe;
  }

  /**
   * Solves an edit for one or more prompt pairs.
   *
   * Aligns each source token with a destination token, encodes all prompts, and solves eq. 5 with
   * the aligned embeddings as rows of C and D. The methods "uce" and "nullspace" pair the last
   * subject tokens instead, and solve their own equations; docs/editors.md compares them.
   *
   * ```ts
   * const erase = [{ source: "a rose", destination: "a flower" }];
   * const options = { method: "nullspace", preserve: ["a tulip", "a cat"] } as const;
   * using edit = await ModelEdit.solve(erase, options, pipe);
   * console.log(edit.report.nullSpace!.dimension, edit.report.moves!.mostMovedRetained);
   * ```
   *
   * @param model the model to edit, usually a `StableDiffusionModelEditingPipeline`
   * @throws {AlignmentError} when a source is not a subsequence of its destination and the pair
   *   gives no manual alignment
   * @throws {LambdaError} when λ is not a finite number above 0
   * @throws {IllConditionedError} when λ is too small for the solver's arithmetic
   * @throws {EditError} when there is no pair, a weight is out of range, no layer matches, or a
   *   null-space edit has no retained prompt or no null space
   * @throws {OptionError} for an unknown method, or an option of another method
   * @throws the reason of `signal` when it aborts
   */
  static async solve(
    pairs: readonly EditPair[],
    options: ModelEditOptions,
    model: EditableModel,
  ): Promise<ModelEdit> {
    // First: a pipeline in place of the options would be told by its fields.
    checkArgument("edit", "model", model, editableKind);
    checkOptions("edit", options, modelEditTable);
    checkMethod(options.method);
    return await ModelEdit.#solve(takePairs(pairs), { ...options }, model);
  }

  static async #solve(
    pairs: readonly EditPair[],
    options: ModelEditOptions,
    model: EditableModel,
  ): Promise<ModelEdit> {
    using cleanup = new DisposableStack();
    const { recipe, alignments, layers, probe, ...solvable } = await prepareEdit(pairs, options, model);
    for (const { system } of solvable.systems) cleanup.use(system);
    cleanup.use(solvable.pooled);
    const { operators, report } = await solveAll(solvable, { lamb: recipe.lamb, signal: options.signal });
    const { method = "time" } = recipe;
    const edit = new ModelEdit({
      recipe,
      operators,
      report: { ...report, alignments, layers, method },
      model,
      solvable,
      probe,
    });
    cleanup.move(); // the edit owns both now
    return edit;
  }

  /**
   * Loads an edit from a file that {@linkcode ModelEdit.save} wrote.
   *
   * @param source a path (Deno only), or the bytes of the file
   * @param options.anyModel Accept an edit that was solved with another text encoder, or with
   *   several whose widths have the same sum. Default: false.
   * @throws {EditError} when the file is not an edit, was solved with another text encoder, or
   *   names layers that the model does not have
   */
  static async load(
    source: string | Uint8Array,
    model: EditableModel,
    options: { anyModel?: boolean } = {},
  ): Promise<ModelEdit> {
    checkOptions("load an edit", options, { anyModel: kinds.flag });
    checkArgument("load an edit", "model", model, editableKind);
    const { anyModel = false } = options;
    const file = await readEdit(source);
    const { embeddings, width } = await encodeOnHost(model, [probeText]);
    const probe = endTokenEmbedding(embeddings.get(probeText)!, width, model);
    const encoderWidths = encoderWidthsOf(model, width), { crossAttentions } = model;
    const fitted = fitEdit(file, {
      encoderWidths,
      pooledWidth: file.pooled && model.encodePooled && (await encodeOnHost(pooledEncoder(model), [probeText])).width,
      crossAttentions,
    }, { anyModel });
    if (!anyModel) checkProbe(file.probe, { embedding: probe, encoderWidths }, file.name);
    const edited = new Set(fitted.flatMap(({ layers }) => layers));
    const layers = crossAttentions.map(({ path }) => path).filter((path) => edited.has(path));
    const operators = {
      byLayer: fitted.map(({ layers, factors }) => {
        return { layers, operator: uploaded(model.gpu, factors) };
      }),
      pooled: file.pooled && uploaded(model.gpu, file.pooled),
    };
    const report = { ...file.report, alignments: [], layers, method: file.recipe.method ?? "time" };
    return new ModelEdit({ recipe: file.recipe, operators, report, model, probe });
  }

  /**
   * E, on the model's device. The edit owns it and disposes it.
   *
   * @throws {EditError} for an edit whose layers have operators of their own: read `operators`
   */
  get operator(): EditOperator {
    const [first, ...more] = this.operators;
    if (more.length === 0) return first.operator;
    throw new EditError(
      `Cannot read the operator of an edit that has ${more.length + 1}, each for some layers: read edit.operators`,
    );
  }

  /**
   * The operators, each with the layers that it edits: one for all; or several, where
   * `influenceFilter` or `augment` give layers null spaces of their own. The edit owns them.
   */
  get operators(): readonly LayerOperator[] {
    return this.#operators.byLayer;
  }

  /** The operator of the pooled embedding, of an edit `withPooled`. The edit owns it. */
  get pooledOperator(): EditOperator | undefined {
    return this.#operators.pooled;
  }

  /**
   * Upper bound of the rank of E − I: the number of rows with dᵢ ≠ cᵢ after merging. Of several
   * operators, the largest.
   */
  get rank(): number {
    return Math.max(...this.operators.map(({ operator }) => operator.rank));
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
    return this.#model.gpu;
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
   * @throws {GpuError} for an edit that is disposed of, also meanwhile
   */
  async resolve(options: { lamb: number; signal?: AbortSignal }): Promise<EditReport> {
    checkOptions("solve an edit again", options, {
      lamb: kind("a number", (value) => typeof value === "number"),
      signal: kinds.signal,
    });
    const { lamb, signal } = options;
    if (!this.#solvable) {
      throw new EditError(
        "Cannot solve a loaded edit again: its file holds only the solution. Use ModelEdit.solve with its recipe",
      );
    }
    const { operators, report } = await solveAll(this.#solvable, { lamb, signal });
    if (this.#disposed) {
      disposeOf(operators);
      throw new GpuError("Cannot solve an edit again after it was disposed");
    }
    disposeOf(this.#operators);
    this.#operators = operators;
    this.#recipe = { ...this.#recipe, lamb };
    return this.#report = { ...this.#report, ...report };
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
    using owned = new DisposableStack();
    const operators = sharesOf(this.operators, owned);
    const changes = await Promise.all(operators.map(({ layers, operator }) => {
      const edited = this.#model.crossAttentions.filter(({ path }) => layers.includes(path));
      return relativeChanges(operator, edited, { withToK });
    }));
    const { layers } = this.#report;
    return changes.flat().toSorted((a, b) => layers.indexOf(a.layer) - layers.indexOf(b.layer));
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
    using owned = new DisposableStack();
    // The edit may be solved again or disposed of meanwhile.
    const operators = sharesOf(this.operators, owned);
    const pooled = owned.use(this.pooledOperator?.share());
    const kept = {
      probe: { embedding: this.#probe, encoderWidths: encoderWidthsOf(this.#model, operators[0].operator.width) },
      recipe: this.#recipe,
      report: savedReport(this.#report, this.#recipe),
    };
    if (typeof target === "string") await refuseSourceFile(Object.values(this.#model.components ?? {}), target);
    const operatorsOnHost = await Promise.all(
      operators.map(async ({ layers, operator }) => ({ layers, factors: await downloaded(operator) })),
    );
    await writeEdit(target, {
      ...kept,
      operators: operatorsOnHost,
      ...(pooled && { pooled: await downloaded(pooled) }),
    });
  }

  /**
   * Exports ΔW = W(E − I) of every edited projection as a LoRA for diffusers, A1111 and ComfyUI.
   *
   * @param target a path (Deno only), or a function that receives the file's bytes in order
   * @returns the rank of the file and its truncation and rounding errors
   * @throws {EditError} when the rank is out of range, or the edit changes nothing
   */
  async exportLora(
    target: string | ByteSink,
    options: LoraExportOptions = {},
    model: EditableModel = this.#model,
  ): Promise<LoraReport> {
    using owned = new DisposableStack();
    // The edit may be solved again or disposed of meanwhile.
    const operators = sharesOf(this.operators, owned);
    const pooledOperator = this.pooledOperator && owned.use(this.pooledOperator.share());
    const { edits } = this;
    const held = {
      operators,
      pooledOperator,
      edits: (layer: string, role: "keys" | "values") => edits.call(this, layer, role),
    };
    return await exportLora(target, [held], { ...options, model });
  }

  /** Frees the factors, and the system kept for {@linkcode ModelEdit.resolve}. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    disposeOf(this.#operators);
    for (const { system } of this.#solvable?.systems ?? []) system[Symbol.dispose]();
    this.#solvable?.pooled?.[Symbol.dispose]();
  }
}

/** @throws {EditError} for widths that are not those of the embeddings */
function encoderWidthsOf({ encoderWidths }: EditableModel, width: number): readonly number[] {
  if (encoderWidths === undefined || encoderWidths.reduce((sum, each) => sum + each, 0) === width) {
    return encoderWidths ?? [width];
  }
  throw new EditError(
    `Cannot tell this model's text encoders apart: encoderWidths has [${encoderWidths}], and its embeddings have width ` +
      `${width}, which must be the sum`,
  );
}

/** The report as files hold it: those of TIME, as before there were other editors. */
function savedReport(report: EditReport, recipe: EditRecipe): OperatorReport {
  if (recipe.method !== undefined) return report;
  const { method: _method, moves: _moves, ...rest } = report;
  return rest;
}

inspectAs(ModelEdit.prototype, (edit) => {
  if (!(edit instanceof ModelEdit)) return "ModelEdit";
  return `ModelEdit ${pairText(edit.recipe)}, rank ${edit.rank}, ${countText(edit.report.layers.length, "layer")}`;
});
