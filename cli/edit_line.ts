import type { EditReport } from "../pipeline/editing/model_edit.ts";

/** One-line summary of an edit's report. */
export function editLine({ ms, lamb, mergedRows, rank, precision, layers, relativeSize }: EditReport): string {
  return `Edited in ${ms.toFixed(0)} ms: ${mergedRows} rows, rank ${rank}, ${precision}, lambda ${lamb}, ` +
    `${layers.length} layers, relative size ${relativeSize.toFixed(3)}`;
}
