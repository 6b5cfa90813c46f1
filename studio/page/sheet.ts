/** Pictures on one sheet with labels, as a PNG. @module */

import type { Pixels } from "../painter.ts";
import { imageOf, pngOf } from "./paint.ts";
import type { Card } from "./stage.ts";

/** A table of pictures. */
export interface Sheet {
  readonly title: string;
  /** Above the columns. */
  readonly columns: readonly string[];
  /** Left of the rows. */
  readonly rows: readonly string[];
  /** `cells[row][column]` */
  readonly cells: readonly (readonly (Pixels | undefined)[])[];
}

/** Side of a cell in pixels: pictures smaller than this are enlarged. */
const minCell = 256;
const gap = 8;
const font = `"Instrument Sans", system-ui, sans-serif`;

/** Draws a sheet. */
export function drawSheet({ title, columns, rows, cells }: Sheet): Promise<Blob> {
  const all = cells.flat().filter((pixels) => pixels !== undefined);
  const width = Math.max(minCell, ...all.map(({ width }) => width));
  const height = Math.max(...all.map((pixels) => Math.round(pixels.height * width / pixels.width)));
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d")!;
  context.font = `500 18px ${font}`;
  const left = Math.ceil(Math.max(0, ...rows.map((text) => context.measureText(text).width))) + 2 * gap;
  const top = 84;
  canvas.width = left + columns.length * (width + gap);
  canvas.height = top + rows.length * (height + gap);
  context.fillStyle = "#f8f9fb";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#11141b";
  context.textBaseline = "middle";
  context.font = `600 22px ${font}`;
  context.fillText(title, gap, 26, canvas.width - 2 * gap);
  context.font = `500 18px ${font}`;
  context.textAlign = "center";
  columns.forEach((text, i) => context.fillText(text, left + i * (width + gap) + width / 2, 62, width));
  context.textAlign = "right";
  rows.forEach((text, i) => context.fillText(text, left - gap, top + i * (height + gap) + height / 2));
  context.imageSmoothingQuality = "high";
  cells.forEach((row, y) =>
    row.forEach((pixels, x) => {
      if (pixels === undefined) return;
      context.drawImage(imageOf(pixels), left + x * (width + gap), top + y * (height + gap), width, height);
    })
  );
  return pngOf(canvas);
}

/** All cards on one sheet: before above after. */
export function sheetOf(cards: readonly Card[]): Promise<Blob> {
  return drawSheet({
    title: "Blue Rose studio",
    columns: cards.map(({ text }) => text),
    rows: ["before", "after"],
    cells: [cards.map(({ before }) => before?.pixels), cards.map(({ after }) => after?.pixels)],
  });
}
