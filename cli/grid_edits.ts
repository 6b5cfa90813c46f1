/**
 * The edits of a grid: which editors solve them, and whether its axes fit them.
 *
 * @module
 */
import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { type MethodOptions, methodSettings } from "../pipeline/editing/prompts/method.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import type { GridAxis } from "../pipeline/generation/xy_grid.ts";
import { ArgumentError } from "./argument_error.ts";
import { interruptSignal } from "./interrupt.ts";
import { methodOfFlags, methodsOfFlags } from "./method_flags.ts";

/**
 * Loads an edit; one whose λ is an axis is solved again from its recipe, which its factors do not
 * allow.
 */
export async function loadEdit(
  path: string,
  pipe: EditingPipeline,
  { axes, anyModel }: { axes: readonly GridAxis[]; anyModel: boolean },
): Promise<ModelEdit> {
  const loaded = await ModelEdit.load(path, pipe, { anyModel });
  if (!axes.some(({ name }) => name === "lambda")) return loaded;
  const { pairs, layers, ...options } = loaded.recipe;
  loaded[Symbol.dispose]();
  for (const { name, values } of axes) {
    if (name === "lambda") { for (const lamb of values) methodSettings({ ...options, lamb }); }
  }
  return await ModelEdit.solve(pairs, { ...options, layers: layers ?? undefined, signal: interruptSignal() }, pipe);
}

/** @throws {ArgumentError} where an axis is of edits that are not given */
export function checkEdited(axes: readonly GridAxis[], { pairs, files }: { pairs: number; files: number }): void {
  const ofEdit = axes.find(({ name }) => name === "lambda" || name === "strength");
  if (ofEdit && pairs + files === 0) {
    throw new ArgumentError(
      `Cannot draw a grid of ${ofEdit.name} without an edit: give --source and --destination, or --edit`,
      { argument: "--source" },
    );
  }
  if (!axes.some(({ name }) => name === "method") || (pairs > 0 && files === 0)) return;
  throw new ArgumentError(
    pairs === 0
      ? "Cannot draw a grid of method without an edit to solve: give --source and --destination"
      : "Cannot draw a grid of method with --edit, whose method is given: leave --edit out",
    { argument: pairs === 0 ? "--source" : "--edit" },
  );
}

type EditorValues = Omit<Parameters<typeof methodOfFlags>[0], "preserveWeight">;

/** The editors of the grid: those of an axis, or that of --method. */
export function editorsOf(axes: readonly GridAxis[], values: EditorValues): MethodOptions[] {
  const axis = axes.find((axis) => axis.name === "method");
  const given = { ...values, preserveWeight: 1 };
  return axis === undefined ? [methodOfFlags(given)] : methodsOfFlags([...new Set(axis.values)], given);
}

/** Refuses λ that an editor does not take, before anything is drawn. */
export function checkLambdas(axes: readonly GridAxis[], values: EditorValues): void {
  for (const axis of axes) {
    if (axis.name !== "lambda") continue;
    for (const lambda of axis.values) editorsOf(axes, { ...values, lambda });
  }
}
