/** How an edit is solved: the options of `ModelEdit.solve`. */

import { kind, kinds, listOf, oneOf, type OptionTable } from "../options.ts";
import { type LayerChoice, layerChoiceKind } from "./editable_model.ts";
import type { MethodOptions } from "./prompts/method.ts";
import type { EditSystemOptions } from "./solve/edit_system.ts";

/** Options of {@linkcode ModelEdit.solve}. */
export interface ModelEditOptions extends EditSystemOptions, MethodOptions {
  /**
   * Prompts whose embeddings the edit should not change: rows with dᵢ = cᵢ, the preservation term
   * of UCE (Gandikota et al., arXiv 2308.14761). For "nullspace", which needs some: the retained
   * concepts. Default: none.
   */
  readonly preserve?: readonly string[];
  /** Whether to edit the key projections as well as the value projections. Default: true. */
  readonly withToK?: boolean;
  /**
   * Whether the model's pooled embedding is mapped, too, by an operator of its own: the equations
   * of the method, with one row for each prompt (SDXL only). Default: false.
   */
  readonly withPooled?: boolean;
  /** Layers to edit, by prefixes of their paths or by a predicate. Default: all. */
  readonly layers?: LayerChoice;
  /**
   * Stops between batches of prompts and between the parts of the solution, within about a second:
   * the promise rejects with the signal's reason, and nothing of the edit is kept.
   */
  readonly signal?: AbortSignal;
}

/** The options of {@linkcode ModelEdit.solve} and their kinds. */
export const modelEditTable: OptionTable<ModelEditOptions> = {
  preserve: listOf(kinds.text, "strings"),
  preserveWeight: kinds.number,
  lamb: kind("a number", (value) => typeof value === "number"),
  withToK: kinds.flag,
  withPooled: kinds.flag,
  withAugs: listOf(kinds.text, "strings"),
  layers: layerChoiceKind,
  method: kinds.text,
  tokens: oneOf("all", "last"),
  eraseScale: kinds.number,
  preserveScale: kinds.number,
  threshold: kinds.number,
  retainScale: kinds.number,
  invariant: listOf(kinds.text, "strings"),
  influenceFilter: kinds.flag,
  augment: kinds.number,
  augmentRank: kinds.number,
  route: oneOf("tokens", "channels"),
  precision: oneOf("f64", "f32"),
  signal: kinds.signal,
};
