/**
 * Contact sheets: rows of captioned pictures as one image, for comparing pictures before and after
 * an edit.
 *
 * @module
 */
import { intToRGBA, Jimp } from "jimp";
import { ImageError } from "./errors.ts";
import { type JimpImage, toJimp } from "./jimp_image.ts";
import type { Picture } from "./picture.ts";
import { breakLines, loadFaces, printLines, textHeight } from "./sheet_text.ts";

/** One picture of a sheet. */
export interface SheetCell {
  /** The picture. */
  readonly picture: Picture;
  /** A few words under the picture. */
  readonly caption?: string;
}

/** One row of a sheet: a caption and, to its right, pictures. */
export interface SheetRow {
  /** The text to the left of the pictures. */
  readonly caption: string;
  /** A smaller, gray line under the caption. */
  readonly note?: string;
  /** The pictures, from left to right. */
  readonly cells: readonly SheetCell[];
}

/** The layout of a sheet. */
export interface SheetOptions {
  /** A large line at the top. */
  readonly title?: string;
  /** Smaller lines under the title. */
  readonly subtitle?: string;
  /** Headings over the columns of pictures. */
  readonly columns?: readonly string[];
  /**
   * Side of a cell in layout pixels. Smaller pictures are enlarged to fit, at most twofold.
   * Default: 128.
   */
  readonly cellSize?: number;
  /** Enlarge by bicubic interpolation instead of by repeating pixels. Default: false. */
  readonly smooth?: boolean;
  /** Width of the captions in layout pixels. Default: 160. */
  readonly captionWidth?: number;
  /**
   * Image pixels per layout pixel. With density 2, a sheet shown at half its pixel size is sharp on
   * high-density screens. Default: 2.
   */
  readonly density?: 1 | 2;
}

const paper = 0xfafaf7ff;
const rule = 0xdcdcd6ff;

/** Pictures are enlarged at most by this factor, as larger factors show the pixels. */
const maxEnlargement = 2;

/** Lines of each text at most; longer texts end in dots. */
const maxLines = { title: 4, heading: 4, caption: 40, cell: 3 } as const;

/**
 * Draws rows of captioned pictures. Captions are wrapped, and cut after a few lines. The fonts
 * contain only Latin-1; other characters are replaced by words or similar characters, or else by
 * "?".
 *
 * @throws {ImageError} if no row has a picture
 *
 * @example
 * ```ts
 * const sheet = await contactSheet(
 *   [{ caption: "a pack of roses", cells: [{ picture: before }, { picture: after }] }],
 *   { title: "A pack of roses -> A pack of blue roses", columns: ["before", "after"] },
 * );
 * await sheet.write("sheet.png");
 * ```
 */
export async function contactSheet(rows: readonly SheetRow[], options: SheetOptions = {}): Promise<JimpImage> {
  const { title = "", subtitle = "", columns = [], smooth = false, density = 2 } = options;
  const cellSize = (options.cellSize ?? 128) * density;
  const captionWidth = (options.captionWidth ?? 160) * density;
  const margin = 20 * density, gap = 10 * density, hairline = 4 * density;
  if (!rows.some((row) => row.cells.length > 0)) {
    throw new ImageError("Cannot draw a contact sheet without a picture: give at least one row with one cell");
  }
  const fonts = await loadFaces(density);

  // The layout needs the sizes of all lines and pictures.
  const body = rows.map((row) => ({
    caption: breakLines(fonts.caption, row.caption, captionWidth, maxLines.caption),
    note: breakLines(fonts.small, row.note ?? "", captionWidth, maxLines.caption),
    cells: row.cells.map(({ picture, caption = "" }) => {
      const image = enlarge(picture, { cellSize, smooth });
      return { image, caption: breakLines(fonts.small, caption, image.width, maxLines.cell) };
    }),
  }));
  const columnCount = Math.max(...body.map(({ cells }) => cells.length), columns.length);
  const columnWidths = Array.from(
    { length: columnCount },
    (_, column) => Math.max(...body.map(({ cells }) => cells[column]?.image.width ?? 0), cellSize / 2),
  );
  const hasCaptions = body.some(({ caption, note }) => caption.length + note.length > 0);
  const firstColumnX = margin + (hasCaptions ? captionWidth + 2 * gap : 0);
  const columnXs = columnWidths.map((_, column) => firstColumnX + sum(columnWidths.slice(0, column)) + gap * column);
  const width = columnXs[columnCount - 1] + columnWidths[columnCount - 1] + margin;

  const titleLines = breakLines(fonts.title, title, width - 2 * margin, maxLines.title);
  const subtitleLines = breakLines(fonts.caption, subtitle, width - 2 * margin, maxLines.title);
  const headingLines = columns.map((heading, column) =>
    breakLines(fonts.heading, heading, columnWidths[column], maxLines.heading)
  );
  const titleHeight = textHeight(fonts.title, titleLines) + textHeight(fonts.caption, subtitleLines);
  const headingHeight = Math.max(0, ...headingLines.map((lines) => textHeight(fonts.heading, lines)));
  const rowHeights = body.map(({ caption, note, cells }) =>
    Math.max(
      textHeight(fonts.caption, caption) + textHeight(fonts.small, note),
      ...cells.map((cell) =>
        cell.image.height + textHeight(fonts.small, cell.caption) + (cell.caption.length > 0 ? hairline : 0)
      ),
    )
  );
  const top = margin + (titleHeight > 0 ? titleHeight + gap : 0) + (headingHeight > 0 ? headingHeight + hairline : 0);
  const height = top + sum(rowHeights) + gap * (rows.length - 1) + margin;

  const sheet = new Jimp({ width, height, color: paper }) as JimpImage;
  printLines(sheet, fonts.title, titleLines, { x: margin, y: margin - hairline });
  printLines(sheet, fonts.caption, subtitleLines, {
    x: margin,
    y: margin + textHeight(fonts.title, titleLines),
    opacity: 0.65,
  });
  headingLines.forEach((lines, column) => {
    const y = top - hairline - textHeight(fonts.heading, lines);
    printLines(sheet, fonts.heading, lines, { x: columnXs[column], y, width: columnWidths[column], opacity: 0.65 });
  });

  let y = top;
  body.forEach(({ caption, note, cells }, row) => {
    // Captions are centered vertically beside their pictures.
    const picturesHeight = Math.max(0, ...cells.map(({ image }) => image.height));
    const captionHeight = textHeight(fonts.caption, caption) + textHeight(fonts.small, note);
    const captionY = y + Math.max(0, Math.round((picturesHeight - captionHeight) / 2));
    printLines(sheet, fonts.caption, caption, { x: margin, y: captionY });
    printLines(sheet, fonts.small, note, {
      x: margin,
      y: captionY + textHeight(fonts.caption, caption),
      opacity: 0.55,
    });
    cells.forEach((cell, column) => {
      const x = columnXs[column] + Math.floor((columnWidths[column] - cell.image.width) / 2);
      frame(sheet, { x: x - 1, y: y - 1, width: cell.image.width + 2, height: cell.image.height + 2 });
      sheet.composite(cell.image, x, y);
      printLines(sheet, fonts.small, cell.caption, {
        x,
        y: y + cell.image.height + hairline,
        width: cell.image.width,
        opacity: 0.65,
      });
    });
    y += rowHeights[row] + gap;
  });
  return sheet;
}

/**
 * Enlarges a picture by the largest integer factor, up to {@linkcode maxEnlargement}, that fits
 * `cellSize` image pixels. Larger pictures are unchanged.
 */
function enlarge(picture: Picture, options: { cellSize: number; smooth: boolean }): JimpImage {
  const image = toJimp(picture);
  const factor = Math.min(maxEnlargement, Math.floor(options.cellSize / Math.max(picture.width, picture.height)));
  if (factor < 2) return image;
  const mode = options.smooth ? "bicubicInterpolation" : "nearestNeighbor";
  image.resize({ w: picture.width * factor, h: picture.height * factor, mode: mode as never });
  return image;
}

function frame(sheet: JimpImage, box: { x: number; y: number; width: number; height: number }): void {
  const { r, g, b } = intToRGBA(rule);
  const { data, width } = sheet.bitmap;
  for (let y = box.y; y < box.y + box.height; y++) {
    for (let x = box.x; x < box.x + box.width; x++) data.set([r, g, b, 255], 4 * (y * width + x));
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
