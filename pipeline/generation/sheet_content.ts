/** What the metadata of grids and sheets says of them. */

import { countText } from "../../engine/inspect.ts";
import * as v from "valibot";
import { fields, type Schema } from "../schema.ts";

/** What a sheet of several pictures holds; `undefined` for one picture. */
export function contentOfSheet(parsed: object): string | undefined {
  const { sheet, grid, pictures } = v.parse(sheetSchema, parsed);
  const quoted = (prompts: readonly string[]) =>
    [...new Set(prompts)].slice(0, 3).map((prompt) => JSON.stringify(prompt.slice(0, 60))).join(", ");
  if (pictures && pictures.length > 0) {
    const seeds = [...new Set(pictures.map(({ seed }) => String(seed)))].slice(0, 3).join(", ");
    return `it is a grid of ${countText(pictures.length, "picture")} (${
      quoted(pictures.map(({ prompt }) => prompt))
    }, seeds ${seeds}` +
      "…): generate writes one per file without --grid";
  }
  if (sheet) {
    return `it is a sheet of ${countText(sheet.prompts.length, "prompt")} before and after an edit (${
      quoted(sheet.prompts.map(({ prompt }) => prompt))
    }…): draw one with generate and the saved edit`;
  }
  if (grid) {
    const names = [grid.x, grid.y].flatMap((axis) => axis ? [axis.name] : []);
    return `it is a grid over ${names.join(" and ")}: draw one of its pictures with generate`;
  }
  return ["pictures", "sheet", "grid", "axes"].some((key) => Object.hasOwn(parsed, key))
    ? "it shows several pictures"
    : undefined;
}

/** What sheets say of themselves; anything else there reads as nothing. */
const sheetSchema = fields({
  pictures: optionally(v.array(fields({ prompt: v.string(), seed: v.union([v.number(), v.string()]) }))),
  sheet: optionally(fields({ prompts: v.array(fields({ prompt: v.string() })) })),
  grid: optionally(fields({ x: fields({ name: v.string() }), y: optionally(fields({ name: v.string() })) })),
});

function optionally<T>(schema: Schema<T>): Schema<T | undefined> {
  return v.fallback(v.optional(schema), undefined);
}
