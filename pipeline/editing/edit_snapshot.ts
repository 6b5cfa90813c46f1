/** Edits as they are at one moment, for work that waits in between. */

import type { Tensor } from "../../engine/tensor.ts";
import { EditError } from "../errors.ts";
import { type EditedStates, EditStack, type StackableEdit, type StackEntry } from "./edit_stack.ts";
import { type LayerOperator, sharesOf } from "./edit_operators.ts";
import type { EditOperator } from "./operator.ts";
import type { EditRecipe } from "./prompts/recipe.ts";

/** Which edits act on a row of embeddings: those listed, or all that are enabled. */
export type RowEdits<Edit extends StackableEdit> = readonly Edit[] | "all";

/** An edit as it was at that moment. Solving it again or disposing of it later has no effect. */
class HeldEdit implements StackableEdit, Disposable {
  readonly operators: readonly LayerOperator[];
  readonly pooledOperator: EditOperator | undefined;
  readonly recipe: EditRecipe;
  readonly #original: StackableEdit;
  readonly #owned: DisposableStack;

  constructor(original: StackableEdit) {
    using owned = new DisposableStack(); // shares of an edit that was disposed of fail
    this.operators = sharesOf(original.operators, owned);
    this.pooledOperator = owned.use(original.pooledOperator?.share());
    this.recipe = original.recipe;
    this.#original = original;
    this.#owned = owned.move();
  }

  edits(layer: string, role: "keys" | "values"): boolean {
    return this.#original.edits(layer, role);
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

/**
 * The enabled edits of a stack at one moment. Their operators are held until disposal, whatever
 * becomes of the edits and the stack meanwhile.
 */
export class EditSnapshot<Edit extends StackableEdit = StackableEdit> implements Disposable {
  /** The held edits, in the order of the stack. */
  readonly stack: EditStack<StackableEdit> = new EditStack();
  /** What the snapshot depends on, to compare with that of another. */
  readonly key: readonly unknown[];
  readonly #held = new Map<Edit, HeldEdit>();
  /** Edits that are on the stack but disabled. */
  readonly #disabled = new Set<Edit>();
  readonly #owned: DisposableStack;

  /** Takes the edits of a stack. @throws {GpuError} for one that was disposed of */
  constructor(entries: Iterable<StackEntry<Edit>>) {
    using owned = new DisposableStack();
    const key: unknown[] = [];
    for (const { edit, strength, enabled } of entries) {
      if (!enabled) {
        this.#disabled.add(edit);
        continue;
      }
      // The operators, not the edit: `resolve` replaces them when λ changes.
      key.push(...edit.operators.map(({ operator }) => operator), edit.pooledOperator, strength);
      const held = owned.use(new HeldEdit(edit));
      this.#held.set(edit, held);
      this.stack.push(held, { strength });
    }
    this.key = key;
    this.#owned = owned.move();
  }

  /**
   * Checks that edits are on the stack.
   *
   * @throws {EditError} for one that is not
   */
  checkKnown(edits: readonly Edit[], option: string): void {
    for (const edit of edits) {
      if (this.#held.has(edit) || this.#disabled.has(edit)) continue;
      throw new EditError(
        `Cannot apply an edit of ${option} as it is not on the pipeline's stack of ${
          this.#held.size + this.#disabled.size
        } edits: push it with pipe.edits.push(edit) first`,
      );
    }
  }

  /**
   * The embeddings that each layer reads, as {@linkcode EditStack.editedStates}; disabled edits do
   * not act.
   *
   * @param rows for each row of the embeddings the edits that act on it
   */
  editedStates(embeddings: Tensor, rows: readonly RowEdits<Edit>[]): (layer: string) => EditedStates {
    return this.stack.editedStates(embeddings, { perPrompt: this.#heldOf(rows) });
  }

  /** The pooled embeddings, as {@linkcode EditStack.editedPooled}; disabled edits do not act. */
  editedPooled(pooled: Tensor, rows: readonly RowEdits<Edit>[]): Tensor {
    return this.stack.editedPooled(pooled, { perPrompt: this.#heldOf(rows) });
  }

  #heldOf(rows: readonly RowEdits<Edit>[]): HeldEdit[][] {
    const all = [...this.#held.values()];
    return rows.map((edits) => edits === "all" ? all : edits.flatMap((edit) => this.#held.get(edit) ?? []));
  }

  /** Releases the operators. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
