import { contactSheet, type SheetRow } from "../pipeline/image/contact_sheet.ts";
import type { JimpImage, Picture } from "../pipeline/image/picture.ts";

/**
 * Pictures with their prompts and seeds: a row for each prompt, or a square where there is only
 * one.
 */
export async function captionedGrid(
  pictures: readonly Picture[],
  wanted: readonly { readonly prompt: string; readonly seed: bigint }[],
  options: {
    columns?: number;
    edits: readonly { readonly source: string; readonly destination: string; readonly lambda: number }[];
  },
): Promise<JimpImage> {
  const { columns = Math.ceil(Math.sqrt(pictures.length)), edits } = options;
  const prompts = new Set(wanted.map(({ prompt }) => prompt));
  const isRowOfOne = prompts.size > 1 && options.columns !== undefined;
  const rows: SheetRow[] = [];
  for (let first = 0; first < pictures.length; first += columns) {
    rows.push({
      caption: isRowOfOne ? wanted[first].prompt : "",
      cells: pictures.slice(first, first + columns).map((picture, i) => {
        const { prompt, seed } = wanted[first + i];
        return { picture, caption: prompts.size > 1 && !isRowOfOne ? `${prompt}, seed ${seed}` : `seed ${seed}` };
      }),
    });
  }
  return await contactSheet(rows, {
    title: prompts.size === 1 ? wanted[0].prompt : "",
    subtitle: edits.map((edit) => `${edit.source} -> ${edit.destination} (lambda ${edit.lambda})`).join("; "),
    smooth: true,
  });
}
