/** Grids: one prompt over two settings. @module */

import type { PictureRequest } from "../painter.ts";
import { lambdaText, percent, type Recipe, requestOf } from "./state.ts";

/** What a grid varies. */
export type GridAxes = "lambda" | "seeds" | "samplers";

/** One picture of a grid, with the recipe that draws it. */
export interface GridCell {
  readonly label: string;
  readonly request: PictureRequest;
  readonly recipe: Recipe;
}

/** A grid to draw. */
export interface Grid {
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  readonly columnTitle: string;
  readonly rowTitle: string;
  /** `cells[row][column]` */
  readonly cells: readonly (readonly GridCell[])[];
}

const lambdas = [0.001, 0.01, 0.1, 1, 10, 100, 1000];
const strengths = [1, 0.75, 0.5, 0.25];
const seeds = 7;
const maxSamplers = 7;

/** The grid of a prompt. `open` is the edit whose λ and strength vary. */
export function gridOf(
  axes: GridAxes,
  { prompt, recipe, open, samplers }: { prompt: string; recipe: Recipe; open: number; samplers: readonly string[] },
): Grid {
  if (axes === "lambda") {
    const cell = (lambda: number, strength: number): GridCell => {
      const edits = recipe.edits.map((edit, i) => i === open ? { ...edit, lambda, strength, enabled: true } : edit);
      return cellOf(`λ ${lambdaText(lambda)}, strength ${percent(strength)}`, prompt, "after", { ...recipe, edits });
    };
    return {
      columnTitle: "λ",
      rowTitle: "Strength",
      columns: lambdas.map(lambdaText),
      rows: strengths.map(percent),
      cells: strengths.map((strength) => lambdas.map((lambda) => cell(lambda, strength))),
    };
  }
  const { settings } = recipe;
  const first = BigInt(settings.seed);
  const variants = axes === "seeds"
    ? Array.from({ length: seeds }, (_, i) => ({ name: String(BigInt.asUintN(64, first + BigInt(i))) }))
      .map(({ name }) => ({ name, settings: { ...settings, seed: name } }))
    : samplers.slice(0, maxSamplers).map((name) => ({ name, settings: { ...settings, sampler: name } }));
  const title = axes === "seeds" ? "Seed" : "Sampler";
  return {
    columnTitle: title,
    rowTitle: "Edit",
    columns: variants.map(({ name }) => name),
    rows: ["before", "after"],
    cells: (["before", "after"] as const).map((side) =>
      variants.map(({ name, settings }) => cellOf(`${title} ${name}, ${side}`, prompt, side, { ...recipe, settings }))
    ),
  };
}

function cellOf(label: string, prompt: string, side: "before" | "after", recipe: Recipe): GridCell {
  return { label, request: requestOf(prompt, side, recipe), recipe };
}
