/**
 * The settings that a sweep compares: what draws the pictures, and how an edit is solved.
 *
 * @module
 */
import * as v from "valibot";
import type { ModelEditOptions } from "../../editing/model_edit.ts";
import { boolean, fields, oneOf, positive, type Schema, text } from "../../schema.ts";

/**
 * Which model draws the source and related prompts. "edit": the edited model. "baseline": the
 * unedited model. "oracle": the unedited model, prompted with the destination: an upper bound.
 */
export type SweepMethod = "edit" | "baseline" | "oracle";

/** How an edit is solved. `method` names the editor; each editor has options of its own. */
export interface EditorSettings {
  /** The editor: TIME (arXiv 2303.08084). */
  readonly method: "time";
  /** λ of eq. 5. */
  readonly lamb: number;
  /** Whether the key projections are edited as well as the value projections. */
  readonly withToK: boolean;
  /** Whether the edit preserves the prompts that its row lists. */
  readonly preserve: boolean;
}

/** One column of a sweep's comparison. */
export interface SweepSetting {
  /** Unique within the plan; results and tables name the setting by it. */
  readonly name: string;
  /** What draws the pictures. */
  readonly method: SweepMethod;
  /** How the edits are solved; present for the method "edit" only. */
  readonly editor?: EditorSettings;
}

/** The values of each option of the edits; a grid has one setting for each combination. */
export interface SettingGrid {
  /** Methods in the order of the tables. */
  readonly methods: readonly SweepMethod[];
  /** λ of the edits. */
  readonly lambdas: readonly number[];
  /** Whether key projections are edited, too. */
  readonly withToK: readonly boolean[];
  /** Whether the prompts that rows list are preserved. */
  readonly preserve: readonly boolean[];
}

/**
 * The settings of a grid: each method once, and "edit" once for each combination of options. Values
 * that are given twice count once.
 */
export function settingsOfGrid({ methods, lambdas, withToK, preserve }: SettingGrid): SweepSetting[] {
  const distinct = <T>(values: readonly T[]) => [...new Set(values)];
  return distinct(methods).flatMap((method): SweepSetting[] => {
    if (method !== "edit") return [{ name: method, method }];
    return distinct(lambdas).flatMap((lamb) =>
      distinct(withToK).flatMap((keys) =>
        distinct(preserve).map((keeps): SweepSetting => {
          const editor: EditorSettings = { method: "time", lamb, withToK: keys, preserve: keeps };
          return { name: nameOfEditor(editor), method, editor };
        })
      )
    );
  });
}

function nameOfEditor({ method, lamb, withToK, preserve }: EditorSettings): string {
  return [`${method}, lambda ${lamb}`, ...withToK ? [] : ["values only"], ...preserve ? ["preserve"] : []].join(", ");
}

/** The options of `ModelEdit.solve` for an edit of a row. */
export function solveOptions(editor: EditorSettings, row: { readonly preserve?: readonly string[] }): ModelEditOptions {
  return { lamb: editor.lamb, withToK: editor.withToK, preserve: editor.preserve ? row.preserve ?? [] : [] };
}

/** Validates how an edit is solved. An editor is one more member of the variant. */
const editorSchema: Schema<EditorSettings> = v.variant("method", [
  fields({ method: oneOf("time"), lamb: positive(), withToK: boolean(), preserve: boolean() }),
], "an editor of this version (time)");

/** Validates a setting. */
export const settingSchema: Schema<SweepSetting> = v.pipe(
  fields({ name: text(), method: oneOf("edit", "baseline", "oracle"), editor: v.optional(editorSchema) }),
  v.check(
    ({ method, editor }) => (method === "edit") === (editor !== undefined),
    "a setting whose editor is given for the method edit, and for no other",
  ),
);
