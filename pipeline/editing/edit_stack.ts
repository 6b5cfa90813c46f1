/**
 * Edits that act on one model together. No weight changes: the layers read other embeddings, W'x =
 * W(Ex), so that taking an edit off again is exact.
 */

import type { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { slice } from "../../kernels/shape/slice.ts";
import { EditError } from "../errors.ts";
import { type ExportableEdit, exportLora, type LoraExportOptions, type LoraReport } from "./lora_export.ts";
import type { EditableModel } from "./editable_model.ts";
import type { EditOperator } from "./operator.ts";
import type { EditRecipe } from "./prompts/recipe.ts";

/** An edit as far as a stack uses it; {@linkcode ModelEdit} is one. */
export interface StackableEdit extends ExportableEdit {
  readonly recipe: EditRecipe;
}

/** An edit on a stack. */
export interface StackEntry<Edit extends StackableEdit = StackableEdit> {
  readonly edit: Edit;
  /**
   * 0 leaves the model, 1 is the edit as solved; beyond that it is overdone, below 0 turned round.
   */
  readonly strength: number;
  readonly enabled: boolean;
}

/** Embeddings that a layer's keys and values are to be made from. */
export interface EditedStates {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/**
 * Edits in order. The first pushed edits the model, the next one the edited model (W·E₁·E₂), as
 * `restartParams: false` does.
 *
 * ```ts
 * pipe.edits.push(roses).push(bananas, { strength: 0.5 });
 * pipe.edits.toggle(roses);
 * pipe.edits.pop();
 * ```
 */
export class EditStack<Edit extends StackableEdit = StackableEdit> implements Iterable<StackEntry<Edit>> {
  #entries: StackEntry<Edit>[] = [];

  /** The edits, first pushed first. */
  get entries(): readonly StackEntry<Edit>[] {
    return this.#entries;
  }

  /** How many edits there are, disabled ones included. */
  get length(): number {
    return this.#entries.length;
  }

  /** The entries, first pushed first. */
  [Symbol.iterator](): Iterator<StackEntry<Edit>> {
    return this.#entries[Symbol.iterator]();
  }

  /**
   * Adds an edit on top. It stays its maker's to dispose of, after it has left the stack.
   *
   * @throws {EditError} when it is there already, or the strength is not finite
   */
  push(edit: Edit, options: { strength?: number } = {}): this {
    if (this.#entries.some((entry) => entry.edit === edit)) {
      throw new EditError("Cannot push an edit that is on the stack already: toggle it, or change its strength");
    }
    this.#entries.push({ edit, strength: checkedStrength(options.strength ?? 1), enabled: true });
    return this;
  }

  /** Takes the last edit off. */
  pop(): Edit | undefined {
    return this.#entries.pop()?.edit;
  }

  /** Takes an edit off, wherever it is. @throws {EditError} when it is not on the stack */
  remove(edit: Edit): void {
    this.#entries.splice(this.#indexOf(edit), 1);
  }

  /**
   * Moves an edit to another place, 0 being the first. @throws {EditError} when it is not on the
   * stack or there is no such place
   */
  move(edit: Edit, to: number): void {
    if (!(Number.isInteger(to) && to >= 0 && to < this.length)) {
      throw new EditError(`Cannot move an edit to place ${to} of a stack of ${this.length}`);
    }
    const [entry] = this.#entries.splice(this.#indexOf(edit), 1);
    this.#entries.splice(to, 0, entry);
  }

  /**
   * Switches an edit on or off; without `enabled`, over. @throws {EditError} when it is not on the
   * stack
   */
  toggle(edit: Edit, enabled?: boolean): void {
    this.#change(edit, (entry) => ({ ...entry, enabled: enabled ?? !entry.enabled }));
  }

  /**
   * Sets how far an edit goes. @throws {EditError} when it is not on the stack, or the strength is
   * not finite
   */
  setStrength(edit: Edit, strength: number): void {
    const checked = checkedStrength(strength);
    this.#change(edit, (entry) => ({ ...entry, strength: checked }));
  }

  /** Takes all edits off. */
  clear(): void {
    this.#entries = [];
  }

  /** What is on the stack, a line an edit; strengths outside 0…1 are pointed out. */
  describe(): string[] {
    return this.#entries.map(({ edit, strength, enabled }, index) => {
      const beyond = strength < 0 ? ", turned round" : strength > 1 ? ", beyond the edit as solved" : "";
      return `${index}: rank ${edit.operator.rank}, strength ${strength}${beyond}${enabled ? "" : ", off"}`;
    });
  }

  /** The pairs of all edits at work, oldest first: what a picture's metadata says. */
  get records(): { source: string; destination: string; lambda: number }[] {
    return this.#entries.filter(({ enabled, strength }) => enabled && strength !== 0).flatMap(({ edit }) =>
      edit.recipe.pairs.map(({ source, destination }) => ({
        source,
        destination: typeof destination === "string"
          ? destination
          : destination.map(({ prompt }) => prompt).join(" / "),
        lambda: edit.recipe.lamb,
      }))
    );
  }

  /**
   * What each cross-attention layer is to read in place of the embeddings: the latest edit meets
   * them first, W·E₁·E₂·x = W·(E₁·(E₂·x)). Layers that share their edits share the tensors.
   *
   * @param embeddings [B, T, width]
   * @param options.perPrompt For each of the B prompts the edits that apply to it. Default: all
   *   that are enabled.
   */
  statesOf(
    embeddings: Tensor,
    options: { perPrompt?: readonly (readonly Edit[])[] } = {},
  ): (layer: string) => EditedStates {
    const { perPrompt } = options;
    if (perPrompt && perPrompt.length !== embeddings.shape[0]) {
      throw new EditError(
        `Cannot edit ${embeddings.shape[0]} prompts by ${perPrompt.length} lists of edits: there must be one for each`,
      );
    }
    const known = new Map<string, Tensor>();
    const read = (layer: string, role: "keys" | "values") => {
      const active = this.#active(layer, role);
      const key = active.map((entry) => this.#entries.indexOf(entry)).join();
      if (!known.has(key)) known.set(key, edited(embeddings, active, perPrompt));
      return known.get(key)!;
    };
    return (layer) => ({ keys: read(layer, "keys"), values: read(layer, "values") });
  }

  /** W·E₁·E₂… [features, width], f32: a layer's weight with the edits folded in, for saving. */
  bake(weight: Tensor, layer: string, role: "keys" | "values"): Tensor {
    return weight.gpu.scope(() => {
      let baked = weight.reshape(weight.shape);
      for (const { edit, strength } of this.#active(layer, role)) {
        const { left, right } = edit.operator.factors;
        baked = right
          ? matmul(matmul(baked, left, { transposeB: true, scale: strength }), right, { residual: baked })
          : matmul(baked, left, { transposeB: true, scale: strength, residual: baked });
      }
      return baked;
    });
  }

  /**
   * All enabled edits as one LoRA.
   *
   * @throws {EditError} when nothing is edited or the rank is out of range
   */
  async exportLora(path: string, options: LoraExportOptions & { model: EditableModel }): Promise<LoraReport> {
    const scaled: EditOperator[] = [];
    const edits = this.#entries.filter(({ enabled, strength }) => enabled && strength !== 0).map(
      ({ edit, strength }) => {
        if (strength === 1) return edit;
        const operator = edit.operator.scaled(strength);
        scaled.push(operator);
        return { operator, edits: (layer: string, role: "keys" | "values") => edit.edits(layer, role) };
      },
    );
    try {
      return await exportLora(path, edits, options);
    } finally {
      for (const operator of scaled) operator[Symbol.dispose]();
    }
  }

  #active(layer: string, role: "keys" | "values"): StackEntry<Edit>[] {
    return this.#entries.filter(({ edit, strength, enabled }) =>
      enabled && strength !== 0 && edit.operator.rank > 0 && edit.edits(layer, role)
    );
  }

  #indexOf(edit: Edit): number {
    const index = this.#entries.findIndex((entry) => entry.edit === edit);
    if (index < 0) throw new EditError(`Cannot find the edit among the ${this.length} on the stack`);
    return index;
  }

  #change(edit: Edit, change: (entry: StackEntry<Edit>) => StackEntry<Edit>): void {
    const index = this.#indexOf(edit);
    this.#entries[index] = change(this.#entries[index]);
  }
}

function checkedStrength(strength: number): number {
  if (Number.isFinite(strength)) return strength;
  throw new EditError(`Cannot apply an edit with strength ${strength}: it must be finite, 0 to 1 as a rule`);
}

/** E₁E₂…x for each prompt of a batch, by its own selection where there is one. */
function edited<Edit extends StackableEdit>(
  embeddings: Tensor,
  active: readonly StackEntry<Edit>[],
  perPrompt: readonly (readonly Edit[])[] | undefined,
): Tensor {
  const apply = (x: Tensor, entries: readonly StackEntry<Edit>[]) =>
    entries.toReversed().reduce((x, { edit, strength }) => edit.operator.apply(x, { strength }), x);
  const selections = perPrompt?.map((selection) => active.filter(({ edit }) => selection.includes(edit)));
  return embeddings.gpu.scope(() => {
    const whole = embeddings.reshape(embeddings.shape); // what is returned is the caller's, edited or not
    if (!selections || selections.every((entries) => entries.length === active.length)) return apply(whole, active);
    return concat(selections.map((entries, row) => apply(slice(whole, 0, row, row + 1), entries)), 0);
  });
}
