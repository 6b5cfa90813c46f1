/**
 * An edit as a thing of its own: made from prompts, looked at, kept in a file, put on models and
 * taken off.
 */

import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import { EditError } from "../errors.ts";
import { type Alignment, defaultAugmentations } from "./prompts/alignment.ts";
import { readEdit, writeEdit } from "./edit_file.ts";
import { EditSystem, type EditSystemOptions } from "./solve/edit_system.ts";
import { chosenLayers, type EditableModel, encodeOnHost, type LayerChoice } from "./editable_model.ts";
import { foretell, type Foretold } from "./leakage.ts";
import { exportLora, type LoraExportOptions, type LoraReport } from "./lora_export.ts";
import { EditOperator, type OperatorReport } from "./operator.ts";
import { alignedSentences, type EditPair, type EditRecipe, rowsOf } from "./prompts/recipe.ts";

/** Options of {@linkcode ModelEdit.solve}. */
export interface ModelEditOptions extends EditSystemOptions {
  /** Prompts to keep as they are: rows with d = c (UCE's term, 2308.14761). Default: none. */
  readonly preserve?: readonly string[];
  /** How much a preserved prompt counts beside a pair. Default: 1. */
  readonly preserveWeight?: number;
  /** λ of eq. 5: how firmly everything else is held. Default: 0.1, the paper's. */
  readonly lamb?: number;
  /** Whether keys are edited too, or values only. Default: true. */
  readonly withToK?: boolean;
  /** Texts put before the prompts of every pair. Default: diffusers' three. */
  readonly withAugs?: readonly string[];
  /** Layers to edit: prefixes of their paths, or a function. Default: all. */
  readonly layers?: LayerChoice;
}

/**
 * How much an edit changes one layer: ‖W(E − I)‖ / ‖W‖ of its keys (undefined where they are not
 * edited) and values.
 */
export interface LayerChange {
  readonly layer: string;
  readonly toK: number | undefined;
  readonly toV: number;
}

/** What an edit says of itself. */
export interface EditReport extends OperatorReport {
  /** How the prompts were aligned, sentence by sentence; empty for an edit from a file. */
  readonly alignments: readonly Alignment[];
  /** Layers that the edit changes. */
  readonly layers: readonly string[];
}

/**
 * An edit of a model's implicit assumptions (TIME, 2303.08084).
 *
 * ```ts
 * using edit = await ModelEdit.solve([{ source: "A pack of roses", destination: "A pack of blue roses" }], { lamb: 0.1 }, pipe);
 * console.log(edit.rank, edit.report.residual, await edit.leakage(["a sunflower"]));
 * pipe.edits.push(edit);
 * ```
 */
export class ModelEdit implements Disposable {
  /** What the edit was made from. */
  #recipe: EditRecipe;
  #operator: EditOperator;
  #report: EditReport;
  readonly #model: EditableModel;
  readonly #system: EditSystem | undefined;
  readonly #probe: Float32Array;
  #version = 0;

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
   * Solves one or many pairs at once.
   *
   * @throws {AlignmentError} when a source is not a subsequence of its destination and no alignment
   *   by hand is given
   * @throws {LambdaError} when λ is not a finite number above 0; {IllConditionedError} when it is
   *   too small for the numbers
   * @throws {EditError} when there is no pair, a weight is out of range, or no layer matches
   */
  static async solve(
    pairs: readonly EditPair[],
    options: ModelEditOptions,
    model: EditableModel,
  ): Promise<ModelEdit> {
    const {
      preserve = [],
      preserveWeight = 1,
      lamb = 0.1,
      withToK = true,
      withAugs = defaultAugmentations,
      layers: choice,
    } = options;
    const sentences = alignedSentences(pairs, withAugs, model.tokenizer);
    const alignments = sentences.flatMap(({ destinations }) => destinations.map(({ alignment }) => alignment));
    const texts = alignments.flatMap(({ source, destination }) => [source, destination]);
    const encoded = await encodeOnHost(model, [...texts, ...preserve, probeText]);
    const layers = chosenLayers(model, encoded.width, choice);
    const rows = rowsOf(sentences, { prompts: preserve, weight: preserveWeight }, encoded);
    const system = EditSystem.fromHost(model.gpu, rows, options);
    try {
      const operator = await system.solve({ lamb });
      const paths = layers.map(({ path }) => path);
      const all = paths.length === model.crossAttentions.length;
      return new ModelEdit({
        recipe: { pairs, preserve, preserveWeight, lamb, withToK, withAugs, layers: all ? null : paths },
        operator,
        report: { ...operator.report!, alignments, layers: paths },
        model,
        system,
        probe: endRow(encoded.embeddings.get(probeText)!, encoded.width, model),
      });
    } catch (error) {
      system[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * An edit from a file that {@linkcode ModelEdit.save} wrote.
   *
   * @param source a path or a URL's bytes; only paths need Deno
   * @param options.anyModel Take the edit although the model's text encoder is another. Default:
   *   false.
   * @throws {EditError} when the file holds no edit, or one for another text encoder or other
   *   layers
   */
  static async load(
    source: string | Uint8Array,
    model: EditableModel,
    options: { anyModel?: boolean } = {},
  ): Promise<ModelEdit> {
    const file = await readEdit(source);
    const { embeddings, width } = await encodeOnHost(model, [probeText]);
    const here = endRow(embeddings.get(probeText)!, width, model);
    if (width !== file.width || !(options.anyModel ?? false)) checkProbe(file.probe, here, file.name);
    const layers = chosenLayers(model, width, file.recipe.layers ?? undefined).map(({ path }) => path);
    const operator = new EditOperator(model.gpu.scope(() => ({
      left: Tensor.from(model.gpu, file.left, [file.rank, width]),
      right: file.right && Tensor.from(model.gpu, file.right, [file.rank, width]),
    })));
    const report = { ...file.report, alignments: [], layers };
    return new ModelEdit({ recipe: file.recipe, operator, report, model, probe: here });
  }

  /** E, on the model's device. It is the edit's: dispose of the edit, not of it. */
  get operator(): EditOperator {
    return this.#operator;
  }

  /** Rank of E − I at most: the number of rows that change something. */
  get rank(): number {
    return this.#operator.rank;
  }

  /** What the solver found. */
  get report(): EditReport {
    return this.#report;
  }

  /** What the edit was made from. */
  get recipe(): EditRecipe {
    return this.#recipe;
  }

  /** The device that holds the factors. */
  get gpu(): Gpu {
    return this.#operator.gpu;
  }

  /** The model that the edit was made on. */
  get model(): EditableModel {
    return this.#model;
  }

  /** Counts how often the operator has changed, for those who keep what they computed with it. */
  get version(): number {
    return this.#version;
  }

  /** Whether a layer's keys or values read edited embeddings. */
  edits(layer: string, role: "keys" | "values"): boolean {
    return this.#report.layers.includes(layer) && (role === "values" || this.#recipe.withToK);
  }

  /**
   * Solves again for another λ, without encoding again: embeddings and Gram matrix were kept.
   *
   * @throws {EditError} for an edit from a file, which has only the factors; as {@linkcode
   *   ModelEdit.solve} does for a bad λ
   */
  async resolve(options: { lamb: number }): Promise<EditReport> {
    if (!this.#system) {
      throw new EditError("Cannot solve an edit from a file again as it holds the solution only: use ModelEdit.solve");
    }
    const operator = await this.#system.solve(options);
    this.#operator[Symbol.dispose]();
    this.#operator = operator;
    this.#version++;
    this.#recipe = { ...this.#recipe, lamb: options.lamb };
    const { alignments, layers } = this.#report;
    return this.#report = { ...operator.report!, alignments, layers };
  }

  /** How far each prompt's embeddings move: ‖(E − I)x‖ / ‖x‖, without drawing anything. */
  async leakage(prompts: readonly string[]): Promise<number[]> {
    return (await this.foretell(prompts)).map(({ leakage }) => leakage);
  }

  /**
   * What the edit will do to prompts: leakage, its share of what the sources themselves move, and
   * the nearest source.
   */
  async foretell(prompts: readonly string[], options: { warnAbove?: number } = {}): Promise<Foretold[]> {
    return await foretell(this, prompts, options);
  }

  /**
   * How much each edited layer's weights would change: ‖W(E − I)‖ / ‖W‖. Some 2 · rank · ‖W‖₀
   * multiplications a matrix: ask when it matters.
   */
  async layerChanges(): Promise<LayerChange[]> {
    const layers = this.#model.crossAttentions.filter(({ path }) => this.#report.layers.includes(path));
    const norms = this.gpu.scope(() =>
      layers.map(({ toK, toV }) => ({
        toK: this.#recipe.withToK ? this.#changeNorms(toK.weight) : [],
        toV: this.#changeNorms(toV.weight),
      }))
    );
    const ratio = async ([change, weight]: Tensor[]) => {
      const [a, b] = await Promise.all([change.data(), weight.data()]);
      change[Symbol.dispose]();
      weight[Symbol.dispose]();
      const total = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0);
      return Math.sqrt(total(a) / (total(b) || 1));
    };
    return await Promise.all(layers.map(async ({ path }, i) => ({
      layer: path,
      toK: norms[i].toK.length > 0 ? await ratio(norms[i].toK) : undefined,
      toV: await ratio(norms[i].toV),
    })));
  }

  /** Squared norms of the rows of W(E − I), and of W. */
  #changeNorms(weight: Tensor): Tensor[] {
    const { left, right } = this.#operator.factors;
    if (left.size === 0) return [Tensor.from(this.gpu, new Float32Array(1), [1]), squaredNorms(weight)];
    const up = matmul(weight, left, { transposeB: true }); // W Pᵀ [features, rank]
    return [squaredNorms(right ? matmul(up, right) : up), squaredNorms(weight)];
  }

  /**
   * Writes the edit: thin factors in f32, and as metadata the recipe, the report, and what is
   * needed to know the text encoder again.
   *
   * @throws Deno's errors where the file cannot be written
   */
  async save(path: string): Promise<void> {
    const { left, right } = this.#operator.factors;
    const [p, q] = await Promise.all([left.data(), right?.data()]);
    await writeEdit(path, {
      width: this.#operator.width,
      rank: this.rank,
      left: p,
      right: q,
      probe: this.#probe,
      recipe: this.#recipe,
      report: this.#report,
    });
  }

  /**
   * Writes ΔW = W(E − I) of every edited matrix as a LoRA that diffusers, A1111 and ComfyUI load.
   *
   * @returns what the file costs in accuracy
   * @throws {EditError} when the rank is out of range or the edit changes nothing
   */
  async exportLora(
    path: string,
    options: LoraExportOptions = {},
    model: EditableModel = this.#model,
  ): Promise<LoraReport> {
    return await exportLora(path, [this], { ...options, model });
  }

  /** Frees the factors and what was kept for another λ. */
  [Symbol.dispose](): void {
    this.#operator[Symbol.dispose]();
    this.#system?.[Symbol.dispose]();
  }
}

/** A text whose embedding tells text encoders apart. */
const probeText = "a photo of a red rose beside the sea";

/** The embedding of a text's end token. */
function endRow(embedding: Float32Array, width: number, { tokenizer }: EditableModel): Float32Array {
  const end = tokenizer.encode(probeText, { truncation: true }).length - 1;
  return embedding.slice(end * width, (end + 1) * width);
}

/** Precisions of one encoder differ by 10⁻³ in f16; encoders differ by 1. */
const sameEncoder = 0.05;

function checkProbe(saved: Float32Array, here: Float32Array, name: string): void {
  if (saved.length !== here.length) {
    throw new EditError(
      `Cannot use the edit ${name} on this model as it was made for embeddings ${saved.length} wide and the model's are ${here.length} wide`,
    );
  }
  let difference = 0, norm = 0;
  for (let i = 0; i < here.length; i++) {
    difference += (here[i] - saved[i]) ** 2;
    norm += saved[i] ** 2;
  }
  const distance = Math.sqrt(difference / (norm || 1));
  if (distance <= sameEncoder) return;
  throw new EditError(
    `Cannot use the edit ${name} on this model as it was made for another text encoder: a test prompt's embedding is off by ${
      (100 * distance).toFixed(0)
    } % (${100 * sameEncoder} % are allowed). anyModel takes it all the same`,
  );
}
