/**
 * What `bluerose edit` draws, exports and saves: an edit that it solves, those of --edit alone, or
 * without any edit the model with its LoRAs, which is saved only.
 *
 * @module
 */
import { EditStack } from "../pipeline/editing/edit_stack.ts";
import type { LoraExportOptions, LoraReport } from "../pipeline/editing/lora_export.ts";
import type { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { type EditPair, pairText } from "../pipeline/editing/prompts/recipe.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { ArgumentError } from "./argument_error.ts";
import { editJson, editLine } from "./edit_report.ts";
import { loadEdits } from "./edits_of_flags.ts";
import { kebab } from "./flag_types.ts";
import { methodFlags } from "./method_flags.ts";

/** Edits that are drawn before and after, exported and saved. */
export interface EditSubject {
  /** Describes it in one line. */
  readonly line: string;
  /** Heads its sheet of pictures. */
  readonly title: string;
  /** What --json says of it. */
  readonly json: Record<string, unknown>;
  /** Adds it to the pipeline's edits. */
  push(): void;
  exportLora(path: string, options: LoraExportOptions): Promise<LoraReport>;
}

/** An edit that was solved from pairs. */
export function solvedSubject(edit: ModelEdit, pairs: readonly EditPair[], pipe: EditingPipeline): EditSubject {
  const shown = pairs.slice(0, 2).map((pair) => `${pair.source} -> ${pair.destination}`).join("; ");
  return {
    line: editLine(edit.report),
    title: shown + (pairs.length > 2 ? `; and ${pairs.length - 2} more` : ""),
    json: { edit: editJson(edit.report) },
    push: () => void pipe.edits.push(edit),
    exportLora: (path, options) => edit.exportLora(path, options, pipe),
  };
}

/** The edits of --edit, or the model's LoRAs alone. They belong to `owned`. */
export async function savedSubject(
  pipe: EditingPipeline,
  values: { readonly edit: readonly string[]; readonly anyModel: boolean; readonly lora: readonly string[] },
  owned: DisposableStack,
): Promise<EditSubject> {
  const loaded = await loadEdits(pipe, values, owned);
  const texts = loaded.length === 0
    ? values.lora
    : loaded.map(({ edit, strength }) => pairText(edit.recipe) + (strength === 1 ? "" : `, strength ${strength}`));
  return {
    line: `Applied ${texts.join("; ")}`,
    title: texts.slice(0, 2).join("; ") + (texts.length > 2 ? `; and ${texts.length - 2} more` : ""),
    json: loaded.length === 0 ? { loras: values.lora } : {
      edits: loaded.map(({ path, edit, strength }) => ({ path, strength, ...editJson(edit.report) })),
    },
    push: () => {
      for (const { edit, strength } of loaded) pipe.edits.push(edit, { strength });
    },
    exportLora: (path, options) => {
      const stack = new EditStack<ModelEdit>();
      for (const { edit, strength } of loaded) stack.push(edit, { strength });
      return stack.exportLora(path, { ...options, model: pipe });
    },
  };
}

/** The values of the command's flags. */
type EditValues = Readonly<Record<string, unknown>> & {
  readonly edit: readonly string[];
  readonly lora: readonly string[];
};

/** Flags that say how something is done, and the flags of which one asks for it. */
const dependentFlags: readonly (readonly [flag: string, ...on: string[]])[] = [
  ["candidates", "report"],
  ["rank", "exportLora"],
  ["loraFormat", "exportLora"],
  ["loraDtype", "exportLora"],
  ["saveDtype", "saveModel"],
  ["output", "prompt", "promptsFile"],
];

/**
 * Refuses flags that would do nothing, as the flag is missing that they belong to.
 *
 * @throws {ArgumentError} then
 */
export function checkDependentFlags(values: EditValues, given: ReadonlySet<string>): void {
  const asks = (value: unknown) => Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false;
  for (const [flag, ...on] of dependentFlags) {
    if (!given.has(flag) || on.some((name) => asks(values[name]))) continue;
    const owners = on.map((name) => `--${kebab(name)}`).join(" or ");
    throw new ArgumentError(`Cannot use --${kebab(flag)} without ${owners}, which it belongs to`, {
      argument: `--${kebab(flag)}`,
    });
  }
}

/** Flags that tell how an edit is solved, what is known of it then alone, and where it is saved. */
const flagsOfSolving: readonly string[] = [
  ...Object.keys(methodFlags),
  ...["valuesOnly", "withPooled", "preserve", "preserveFile", "preserveWeight", "layers"],
  ...["report", "candidates", "saveEdit"],
];

/** Flags that take an edit, solved or saved: LoRAs alone are the same before and after. */
const flagsOfEdits: readonly string[] = ["prompt", "promptsFile", "exportLora", "anyModel"];

/**
 * Refuses to do without a pair where an edit must be solved: there is neither a saved one nor a
 * LoRA to save the model with, or a flag is of solving.
 *
 * @throws {ArgumentError} then
 */
export function checkSavedAlone(values: EditValues, given: ReadonlySet<string>): void {
  const hasEdits = values.edit.length > 0;
  if (!hasEdits && (values.lora.length === 0 || values.saveModel === undefined)) {
    throw new ArgumentError(
      "Cannot edit without a pair of prompts: give --source and --destination, or --pairs; or --edit with a saved edit; " +
        "or --lora with --save-model",
      { argument: "--source" },
    );
  }
  const isGiven = (name: string) => given.has(name) && values[name] !== false;
  const flag = flagsOfSolving.find(isGiven);
  if (flag !== undefined) {
    throw new ArgumentError(
      `Cannot use --${kebab(flag)} without a pair of prompts, as ${
        hasEdits ? "the edits of --edit are solved" : "--lora alone is merged"
      }: give --source and --destination, or --pairs, or leave it out`,
      { argument: `--${kebab(flag)}` },
    );
  }
  const flagOfEdits = hasEdits ? undefined : flagsOfEdits.find(isGiven);
  if (flagOfEdits === undefined) return;
  throw new ArgumentError(
    `Cannot use --${kebab(flagOfEdits)} without an edit, as --lora alone is merged: give --source and --destination, ` +
      "--pairs or --edit, or leave it out. bluerose generate draws with LoRAs",
    { argument: `--${kebab(flagOfEdits)}` },
  );
}
