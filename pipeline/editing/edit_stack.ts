/**
 * The edits that act on a pipeline. They transform the embeddings that cross-attention reads, W'x =
 * W(Ex), and leave the weights unchanged, so removing an edit is exact.
 *
 * @module
 */

import { countText, inspectAs } from "../../engine/inspect.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { EditError } from "../errors.ts";
import { checkArgument, checkOptions, kinds, shown } from "../options.ts";
import type { ByteSink } from "../output/byte_sink.ts";
import { type ExportableEdit, exportLora, type LoraExportOptions, type LoraReport } from "./lora_export.ts";
import type { EditableModel } from "./editable_model.ts";
import { operatorFor } from "./edit_operators.ts";
import { applySteps, factorsOf, folded, type Step } from "./edit_steps.ts";
import type { EditOperator } from "./operator.ts";
import { widened } from "./widened.ts";
import { type EditRecipe, type PairRecord, pairRecords, pairText } from "./prompts/recipe.ts";

/** The parts of an edit that a stack reads; `ModelEdit` has them. */
export interface StackableEdit extends ExportableEdit {
  /** The prompts and settings that the edit was made from. */
  readonly recipe: EditRecipe;
}

/** An edit on a stack, with its strength. */
export interface StackEntry<Edit extends StackableEdit = StackableEdit> {
  /** The edit. */
  readonly edit: Edit;
  /**
   * 0 has no effect, 1 is the edit as solved. Values above 1 extrapolate; negative values invert.
   */
  readonly strength: number;
  /** Whether the edit is applied. */
  readonly enabled: boolean;
}

/** The embeddings [B, T, width] that a layer projects to keys and to values. */
export interface EditedStates {
  /** Embeddings that the key projection reads. */
  readonly keys: Tensor;
  /** Embeddings that the value projection reads. */
  readonly values: Tensor;
}

/**
 * An ordered list of edits. Each edit applies to the model as edited by those before it: the layers
 * compute W·E₁·E₂·…·x, as with `restartParams: false` in diffusers.
 *
 * ```ts
 * pipe.edits.push(roses).push(bananas, { strength: 0.5 });
 * pipe.edits.toggle(roses);
 * pipe.edits.pop();
 * ```
 */
export class EditStack<Edit extends StackableEdit = StackableEdit> implements Iterable<StackEntry<Edit>> {
  #entries: StackEntry<Edit>[] = [];

  /** The entries, in the order in which they were pushed. */
  get entries(): readonly StackEntry<Edit>[] {
    return this.#entries;
  }

  /** The number of edits, including disabled ones. */
  get length(): number {
    return this.#entries.length;
  }

  /** Iterates over the entries, in the order in which they were pushed. */
  [Symbol.iterator](): Iterator<StackEntry<Edit>> {
    return this.#entries[Symbol.iterator]();
  }

  /**
   * Adds an edit at the end. The caller keeps ownership and disposes of the edit after removing it.
   *
   * @throws {EditError} when the edit is on the stack already, or the strength is not finite
   */
  push(edit: Edit, options: { strength?: number } = {}): this {
    checkOptions("push an edit", options, { strength: kinds.anything });
    if (typeof edit !== "object" || edit === null || typeof edit.edits !== "function") {
      throw new EditError(`Cannot push ${shown(edit)} as it is not an edit: ModelEdit.solve() makes one`);
    }
    if (this.#entries.some((entry) => entry.edit === edit)) {
      throw new EditError("Cannot push an edit that is on the stack already: use toggle or setStrength to change it");
    }
    this.#entries.push({ edit, strength: checkedStrength(options.strength ?? 1), enabled: true });
    return this;
  }

  /** Removes and returns the last edit; undefined when the stack is empty. */
  pop(): Edit | undefined {
    return this.#entries.pop()?.edit;
  }

  /** Removes an edit. @throws {EditError} when it is not on the stack */
  remove(edit: Edit): void {
    this.#entries.splice(this.#indexOf(edit), 1);
  }

  /**
   * Moves an edit to another index.
   *
   * @throws {EditError} when it is not on the stack, or the index is out of range
   */
  move(edit: Edit, to: number): void {
    if (!(Number.isInteger(to) && to >= 0 && to < this.length)) {
      throw new EditError(`Cannot move an edit to index ${to}: the stack has ${countText(this.length, "edit")}`);
    }
    const [entry] = this.#entries.splice(this.#indexOf(edit), 1);
    this.#entries.splice(to, 0, entry);
  }

  /**
   * Enables or disables an edit; without `enabled`, inverts its state.
   *
   * @throws {EditError} when it is not on the stack
   */
  toggle(edit: Edit, enabled?: boolean): void {
    if (enabled !== undefined) checkArgument("toggle an edit", "enabled", enabled, kinds.flag);
    this.#change(edit, (entry) => ({ ...entry, enabled: enabled ?? !entry.enabled }));
  }

  /**
   * Sets the strength of an edit.
   *
   * @throws {EditError} when it is not on the stack, or the strength is not finite
   */
  setStrength(edit: Edit, strength: number): void {
    const checked = checkedStrength(strength);
    this.#change(edit, (entry) => ({ ...entry, strength: checked }));
  }

  /** Removes all edits. */
  clear(): void {
    this.#entries = [];
  }

  /** Describes the stack, one line per edit, with a remark for strengths outside 0…1. */
  describe(): string[] {
    return this.#entries.map(({ edit, strength, enabled }, index) => {
      const beyond = strength < 0 ? " (inverted)" : strength > 1 ? " (beyond the edit as solved)" : "";
      return `${index}: rank ${rankOf(edit)}, strength ${strength}${beyond}${enabled ? "" : ", disabled"}`;
    });
  }

  /** The prompt pairs of all active edits, oldest first, for the metadata of pictures. */
  get records(): PairRecord[] {
    return this.#entries.filter(({ enabled, strength }) => enabled && strength !== 0).flatMap(
      ({ edit: { recipe }, strength }) => pairRecords({ recipe, strength }),
    );
  }

  /**
   * The embeddings that each cross-attention layer reads under the active edits. The last edit is
   * applied first: W·E₁·E₂·x = W·(E₁·(E₂·x)). Layers with the same edits share one tensor.
   *
   * @param embeddings [B, T, width]
   * @param options.perPrompt For each of the B prompts, the edits that apply to it. Default: all
   *   enabled edits.
   * @returns a function from a layer's path to its embeddings
   * @throws {EditError} when `perPrompt` does not have B entries, or names an edit that is not on
   *   the stack
   */
  editedStates(
    embeddings: Tensor,
    options: { perPrompt?: readonly (readonly Edit[])[] } = {},
  ): (layer: string) => EditedStates {
    const { perPrompt } = options;
    this.#checkPerPrompt(perPrompt, embeddings);
    const cache = new Map<string, Tensor>();
    const numbers = new Map<EditOperator, number>();
    const read = (layer: string, role: "keys" | "values") => {
      const active = this.#active(layer, role);
      for (const { operator } of active) numbers.set(operator, numbers.get(operator) ?? numbers.size);
      const key = active.map(({ operator }) => numbers.get(operator)).join();
      if (!cache.has(key)) cache.set(key, applySteps(embeddings, active, perPrompt));
      return cache.get(key)!;
    };
    return (layer) => ({ keys: read(layer, "keys"), values: read(layer, "values") });
  }

  /** W·E₁·E₂·… [features, width] in f32: a weight with the active edits folded in, for saving. */
  bake(weight: Tensor, layer: string, role: "keys" | "values"): Tensor {
    return weight.gpu.scope(() => folded(weight, this.#active(layer, role).map(factorsOf)));
  }

  /**
   * The pooled embeddings under the active edits that map them (`withPooled`), as {@linkcode
   * editedStates} the others.
   *
   * @param pooled [B, projection]
   */
  editedPooled(pooled: Tensor, options: { perPrompt?: readonly (readonly Edit[])[] } = {}): Tensor {
    this.#checkPerPrompt(options.perPrompt, pooled);
    return applySteps(pooled, this.#activePooled(), options.perPrompt);
  }

  /**
   * The layer that reads pooled embeddings by its first columns, with the active edits folded in;
   * `undefined` if none maps them. Its other columns stay.
   *
   * @param weight [features, projection + …]
   */
  bakePooled(weight: Tensor): Tensor | undefined {
    const steps = this.#activePooled();
    if (steps.length === 0) return undefined;
    const { gpu } = weight, [, width] = weight.dims(2);
    return gpu.scope(() =>
      folded(
        weight,
        steps.map(({ operator, strength }) => {
          const { left, right } = operator.thin();
          return { strength, left: widened(left, width), right: widened(right, width) };
        }),
      )
    );
  }

  /**
   * Exports all active edits as one LoRA.
   *
   * @param target a path (Deno only), or a function that receives the file's bytes in order
   * @throws {EditError} when no edit is active, or the rank is out of range
   */
  async exportLora(
    target: string | ByteSink,
    options: LoraExportOptions & { model: EditableModel },
  ): Promise<LoraReport> {
    using held = new DisposableStack();
    // Operators of its own, so that edits may be changed and disposed of while it writes.
    const edits = this.#entries.filter(({ enabled, strength }) => enabled && strength !== 0).map(
      ({ edit, strength }) => {
        const operators = edit.operators.map(({ layers, operator }) => ({
          layers,
          operator: held.use(strength === 1 ? operator.share() : operator.scaled(strength)),
        }));
        const pooledOperator = edit.pooledOperator &&
          held.use(strength === 1 ? edit.pooledOperator.share() : edit.pooledOperator.scaled(strength));
        return {
          operators,
          pooledOperator,
          edits: (layer: string, role: "keys" | "values") => edit.edits(layer, role),
        };
      },
    );
    return await exportLora(target, edits, { ...options });
  }

  #active(layer: string, role: "keys" | "values"): Step<Edit>[] {
    return this.#steps((edit) => operatorFor(edit, layer, role));
  }

  #activePooled(): Step<Edit>[] {
    return this.#steps((edit) => edit.pooledOperator);
  }

  #steps(operatorOf: (edit: Edit) => EditOperator | undefined): Step<Edit>[] {
    return this.#entries.flatMap(({ edit, strength, enabled }) => {
      const operator = enabled && strength !== 0 ? operatorOf(edit) : undefined;
      return operator && operator.rank > 0 ? [{ edit, operator, strength }] : [];
    });
  }

  #checkPerPrompt(perPrompt: readonly (readonly Edit[])[] | undefined, { shape }: Tensor): void {
    if (perPrompt && perPrompt.length !== shape[0]) {
      throw new EditError(
        `Cannot apply ${countText(perPrompt.length, "list")} of edits to ${
          countText(shape[0], "prompt")
        }: give one list per prompt`,
      );
    }
    for (const edit of perPrompt?.flat() ?? []) this.#indexOf(edit);
  }

  #indexOf(edit: Edit): number {
    const index = this.#entries.findIndex((entry) => entry.edit === edit);
    if (index < 0) {
      throw new EditError(`Cannot find the edit on the stack of ${countText(this.length, "edit")}: push it first`);
    }
    return index;
  }

  #change(edit: Edit, change: (entry: StackEntry<Edit>) => StackEntry<Edit>): void {
    const index = this.#indexOf(edit);
    this.#entries[index] = change(this.#entries[index]);
  }
}

/** The largest rank of an edit's operators. */
function rankOf({ operators }: StackableEdit): number {
  return Math.max(0, ...operators.map(({ operator }) => operator.rank));
}

function checkedStrength(strength: number): number {
  if (Number.isFinite(strength)) return strength;
  throw new EditError(`Cannot apply an edit with strength ${shown(strength)}: it must be finite, usually from 0 to 1`);
}

inspectAs(EditStack.prototype, (stack) => {
  if (!(stack instanceof EditStack)) return "EditStack";
  const lines = stack.describe().map((line, i) => `\n  ${line}, ${pairText(stack.entries[i].edit.recipe)}`);
  return `EditStack of ${countText(stack.length, "edit")}${lines.join("")}`;
});
