/**
 * The settings that a sweep compares: what draws the pictures, and how an edit is solved.
 *
 * @module
 */
import * as v from "valibot";
import { type ModelEditOptions, modelEditTable } from "../../editing/edit_options.ts";
import { optionWords } from "../../editing/prompts/option_words.ts";
import { withoutErased } from "../../editing/prompts/retained.ts";
import {
  checkPooled,
  checkTaken,
  type EditMethod,
  editMethods,
  type MethodOptions,
  methodSettings,
  namedOptions,
  type RowTokens,
  takesPooled,
  takesValue,
  withoutEdit,
} from "../../editing/prompts/method.ts";
import { checkArgument, checkOptions, either, kind, kinds, type OptionKind, type OptionTable } from "../../options.ts";
import { anyText, boolean, fields, fromZero, listOf, oneOf, positive, type Schema, text, whole } from "../../schema.ts";

/**
 * Which model draws the source and related prompts. "edit": the edited model. "baseline": the
 * unedited model. "oracle": the unedited model, prompted with the destination: an upper bound.
 */
export type SweepMethod = "edit" | "baseline" | "oracle";

/** How an edit is solved. `method` names the editor; each editor has options of its own. */
export interface EditorSettings extends
  Pick<
    MethodOptions,
    | "tokens"
    | "eraseScale"
    | "preserveScale"
    | "threshold"
    | "retainScale"
    | "invariant"
    | "influenceFilter"
    | "augment"
  > {
  /** The editor. */
  readonly method: EditMethod;
  /** λ. */
  readonly lamb: number;
  /** Whether the key projections are edited as well as the value projections. */
  readonly withToK: boolean;
  /** Whether the pooled embedding is mapped, too (SDXL only). Default: false. */
  readonly withPooled?: boolean;
  /** Whether the edit preserves the prompts that the plan and its row list. */
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

/** Options of which a grid takes several values, for the editors that have them. */
const gridOptions = namedOptions.filter((option) => option !== "preserveWeight" && option !== "augmentRank");

/** A list of values of a kind. */
const eachOf = ({ accepts, requirement }: OptionKind): OptionKind =>
  kind(`a list, each ${requirement}`, (value) => Array.isArray(value) && value.every(accepts));

const listKind = kind("a list", Array.isArray), numbers = eachOf(kinds.number);

/**
 * The values of each option of the edits; a grid has one setting for each combination. A value
 * holds for the editors that take it; an editor that takes none of an option's keeps its default.
 */
export interface SettingGrid {
  /** In the order of the tables: editors, and models without an edit. "edit" stands for "time". */
  readonly methods: readonly (EditMethod | SweepMethod)[];
  /** λ of all editors, or of each. Default: each editor's own default. */
  readonly lambdas?: readonly number[] | Readonly<Partial<Record<EditMethod, readonly number[]>>>;
  /** Whether key projections are edited, too. Default: they are. */
  readonly withToK?: readonly boolean[];
  /**
   * Whether the pooled embedding is mapped, too (SDXL only), by edits that can: not by those with
   * `influenceFilter` or `augment`. Default: it is not.
   */
  readonly withPooled?: readonly boolean[];
  /** Whether listed prompts are preserved; "nullspace" always does. Default: they are not. */
  readonly preserve?: readonly boolean[];
  /** Which tokens are rows. Default: each editor's own. */
  readonly tokens?: readonly RowTokens[];
  /** Weights e of the pairs, of UCE. */
  readonly eraseScale?: readonly number[];
  /** Weights p of the preserved prompts, of UCE. */
  readonly preserveScale?: readonly number[];
  /** Thresholds of null-space edits. */
  readonly threshold?: readonly number[];
  /** Weights s of the penalty on changes, of null-space edits. */
  readonly retainScale?: readonly number[];
  /** Prompts none of whose states may move, of all null-space edits. */
  readonly invariant?: readonly string[];
  /** Whether null-space edits retain in each layer only what the edit moves there. */
  readonly influenceFilter?: readonly boolean[];
  /** Numbers of perturbed copies of retained prompts, of null-space edits. */
  readonly augment?: readonly number[];
}

const gridTable: OptionTable<SettingGrid> = {
  methods: listKind,
  lambdas: either(numbers, kind("an object of lists", (value) => kinds.object.accepts(value) && !Array.isArray(value))),
  withToK: eachOf(kinds.flag),
  withPooled: eachOf(kinds.flag),
  preserve: eachOf(kinds.flag),
  tokens: eachOf(modelEditTable.tokens),
  eraseScale: eachOf(modelEditTable.eraseScale),
  preserveScale: eachOf(modelEditTable.preserveScale),
  threshold: eachOf(modelEditTable.threshold),
  retainScale: eachOf(modelEditTable.retainScale),
  invariant: modelEditTable.invariant,
  influenceFilter: eachOf(modelEditTable.influenceFilter),
  augment: eachOf(modelEditTable.augment),
};

/**
 * The settings of a grid: the models without an edit once, and each editor once for each
 * combination of the values that it takes. Values that are given twice count once.
 *
 * @throws {OptionError} for a value that none of the editors takes, and for values of another kind
 * @throws {LambdaError} {EditError} for a value out of range, and for `withPooled` where all edits
 *   have `influenceFilter` or `augment`
 */
export function settingsOfGrid(grid: SettingGrid): SweepSetting[] {
  const action = "list the settings of a grid", { lambdas } = grid;
  checkOptions(action, grid, gridTable);
  if (lambdas && !isList(lambdas)) {
    checkOptions(action, lambdas, { time: numbers, uce: numbers, nullspace: numbers }, "lambdas");
  }
  checkArgument(action, "methods", grid.methods, listKind);
  const methods = distinct(grid.methods.map((method) => method === "edit" ? "time" : method));
  const editors = methods.filter((method) => method !== "baseline" && method !== "oracle");
  for (const option of gridOptions) {
    for (const value of grid[option] ?? []) checkTaken(option, value, editors);
  }
  const { invariant = [] } = grid;
  if (invariant.length > 0) checkTaken("invariant", invariant, editors);
  if (editors.length === 0) refuseEditing(grid);
  const settings = methods.flatMap((method): SweepSetting[] =>
    method === "baseline" || method === "oracle"
      ? [{ name: method, method }]
      : editorsOfGrid(method, grid).map((editor) => ({ name: nameOfEditor(editor), method: "edit", editor }))
  );
  const solved = settings.flatMap(({ editor }) => editor ?? []);
  if (grid.withPooled?.includes(true) && !solved.some(({ withPooled }) => withPooled)) solved.forEach(checkPooled);
  return settings;
}

/** @throws {OptionError} for values that only edits take; defaults say nothing */
function refuseEditing({ lambdas = [], withToK, withPooled, preserve }: SettingGrid): void {
  const given = {
    lambdas: isList(lambdas) ? lambdas : Object.values(lambdas).flat(),
    withToK: withToK?.filter((keys) => !keys),
    withPooled: withPooled?.filter((pooled) => pooled),
    preserve: preserve?.filter((keeps) => keeps),
  };
  for (const [option, values = []] of Object.entries(given)) {
    for (const value of values) throw withoutEdit(option, value);
  }
}

function editorsOfGrid(method: EditMethod, grid: SettingGrid): EditorSettings[] {
  const { lambdas = [], invariant = [] } = grid;
  const [withToK, preserve] = [orElse(grid.withToK, true), orElse(grid.preserve, false)];
  const given = isList(lambdas) ? lambdas : lambdas[method] ?? [];
  const defaults = methodSettings({ method });
  const ofMethod: MethodOptions = { method, ...method === "nullspace" && invariant.length > 0 ? { invariant } : {} };
  const options = gridOptions.reduce((combinations, option): MethodOptions[] => {
    const given: readonly (string | number | boolean)[] = grid[option] ?? [];
    const values = distinct(given).filter((value) => takesValue(method, option, value));
    if (values.length === 0) return combinations;
    return combinations.flatMap((each) => values.map((value) => ({ ...each, [option]: value })));
  }, [ofMethod]);
  return options.flatMap((own) => {
    const withPooled = orElse(grid.withPooled?.filter((pooled) => !pooled || takesPooled(own)), false);
    return orElse(given, defaults.lamb).flatMap((lamb) =>
      withToK.flatMap((keys) =>
        withPooled.flatMap((pooled) =>
          (method === "nullspace" ? [true] : preserve).map((keeps): EditorSettings => {
            methodSettings({ ...own, lamb }); // refuses values out of range
            return { ...own, method, lamb, withToK: keys, ...(pooled && { withPooled: true }), preserve: keeps };
          })
        )
      )
    );
  });
}

/** The name says λ, and what differs from the editor's defaults. */
function nameOfEditor(editor: EditorSettings): string {
  const { method, lamb, withToK, withPooled, preserve } = editor;
  return [
    method,
    `lambda ${lamb}`,
    ...optionWords(editor),
    ...withToK ? [] : ["values only"],
    ...withPooled ? ["pooled"] : [],
    ...preserve && method !== "nullspace" ? ["preserve"] : [],
  ].join(", ");
}

/** The values without repetitions; the default where none is given. */
function orElse<T>(values: readonly T[] | undefined, fallback: T): T[] {
  return values === undefined || values.length === 0 ? [fallback] : distinct(values);
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

function isList(lambdas: NonNullable<SettingGrid["lambdas"]>): lambdas is readonly number[] {
  return Array.isArray(lambdas);
}

/**
 * The options of `ModelEdit.solve` for an edit of a row.
 *
 * @param retained the plan's prompts, which all rows preserve but those that contain the words of
 *   their own source
 */
export function solveOptions(
  { preserve, ...editor }: EditorSettings,
  row: EditedRow,
  retained: readonly string[] = [],
): ModelEditOptions {
  const shared = withoutErased(retained, sourcesOf(row)).kept;
  return { ...editor, preserve: preserve ? distinct([...row.preserve ?? [], ...shared]) : [] };
}

/** What of a row the options of its edit depend on. */
export interface EditedRow {
  /** The source prompt. */
  readonly source: string;
  /** Further pairs. */
  readonly more?: readonly { readonly source: string }[];
  /** Prompts to preserve, for settings that do. */
  readonly preserve?: readonly string[];
}

/** The sources of a row's edit. */
export function sourcesOf({ source, more = [] }: EditedRow): string[] {
  return [source, ...more.map(({ source }) => source)];
}

const ofAll = {
  withToK: boolean(),
  withPooled: v.optional(boolean()),
  preserve: boolean(),
  tokens: v.optional(oneOf("all", "last")),
};

/** Validates how an edit is solved. An editor is one more member of the variant. */
const editorSchema: Schema<EditorSettings> = v.variant("method", [
  fields({ method: oneOf("time"), lamb: positive(), ...ofAll }),
  fields({
    method: oneOf("uce"),
    lamb: positive(),
    ...ofAll,
    eraseScale: v.optional(positive()),
    preserveScale: v.optional(positive()),
  }),
  fields({
    method: oneOf("nullspace"),
    lamb: fromZero(),
    ...ofAll,
    tokens: v.optional(oneOf("last")),
    threshold: v.optional(positive()),
    retainScale: v.optional(positive()),
    invariant: v.optional(listOf(anyText(), { max: 10_000 })),
    influenceFilter: v.optional(boolean()),
    augment: v.optional(whole(0, 10_000)),
  }),
], `an editor of this version (${editMethods.join(", ")})`);

/** Validates a setting. */
export const settingSchema: Schema<SweepSetting> = v.pipe(
  fields({ name: text(), method: oneOf("edit", "baseline", "oracle"), editor: v.optional(editorSchema) }),
  v.check(
    ({ method, editor }) => (method === "edit") === (editor !== undefined),
    "a setting whose editor is given for the method edit, and for no other",
  ),
);
