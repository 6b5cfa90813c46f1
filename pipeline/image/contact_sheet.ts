/**
 * Contact sheets: rows of pictures with captions, as one image. This is how an edit is looked at,
 * before beside after.
 *
 * @module
 */
import { intToRGBA, Jimp, loadFont, measureText } from "jimp";
import { ImageError } from "./errors.ts";
import { type JimpImage, type Picture, toJimp } from "./picture.ts";

/** One picture of a sheet. */
export interface SheetCell {
  /** The picture. */
  readonly picture: Picture;
  /** A few words under the picture. */
  readonly caption?: string;
}

/** One row of a sheet: its caption stands to the left of its pictures. */
export interface SheetRow {
  /** The text to the left of the pictures. */
  readonly caption: string;
  /** A smaller, grey line under the caption. */
  readonly note?: string;
  /** The pictures, from left to right. */
  readonly cells: readonly SheetCell[];
}

/** How a sheet looks. */
export interface SheetOptions {
  /** A large line on top. */
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
   * Image pixels per layout pixel. A sheet of density 2 is sharp on high-density screens when it is
   * shown at half its pixel size. Default: 2.
   */
  readonly density?: 1 | 2;
}

type Font = Awaited<ReturnType<typeof loadFont>>;

const paper = 0xfafaf7ff;
const rule = 0xdcdcd6ff;
/** Sizes of text in layout pixels. */
const textSizes = { title: 20, heading: 14, caption: 14, small: 12 } as const;

/** A bitmap font, printed at a fraction of the size that it was drawn at. */
interface Face {
  readonly font: Font;
  readonly scale: number;
  readonly lineHeight: number;
}

/** A picture is enlarged by this factor at most: beyond it, pixels show. */
const maxEnlargement = 2;

/**
 * Draws rows of captioned pictures. Captions are wrapped; letters that the fonts lack (they hold
 * Latin-1 alone) are written as words or plain signs where there are such, else as "?".
 *
 * @throws {ImageError} Where there is no picture to draw.
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

  // Measure first: all texts are broken into lines, all pictures enlarged.
  const body = rows.map((row) => ({
    caption: breakLines(fonts.caption, row.caption, captionWidth),
    note: breakLines(fonts.small, row.note ?? "", captionWidth),
    cells: row.cells.map(({ picture, caption = "" }) => {
      const image = enlarge(picture, { cellSize, smooth });
      return { image, caption: breakLines(fonts.small, caption, image.width) };
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

  const titleLines = breakLines(fonts.title, title, width - 2 * margin);
  const subtitleLines = breakLines(fonts.caption, subtitle, width - 2 * margin);
  const headingLines = columns.map((heading, column) => breakLines(fonts.heading, heading, columnWidths[column]));
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
  write(sheet, fonts.title, titleLines, { x: margin, y: margin - hairline });
  write(sheet, fonts.caption, subtitleLines, {
    x: margin,
    y: margin + textHeight(fonts.title, titleLines),
    opacity: 0.65,
  });
  headingLines.forEach((lines, column) => {
    const y = top - hairline - textHeight(fonts.heading, lines);
    write(sheet, fonts.heading, lines, { x: columnXs[column], y, width: columnWidths[column], opacity: 0.65 });
  });

  let y = top;
  body.forEach(({ caption, note, cells }, row) => {
    // The caption sits at the middle of its pictures.
    const picturesHeight = Math.max(0, ...cells.map(({ image }) => image.height));
    const captionHeight = textHeight(fonts.caption, caption) + textHeight(fonts.small, note);
    const captionY = y + Math.max(0, Math.round((picturesHeight - captionHeight) / 2));
    write(sheet, fonts.caption, caption, { x: margin, y: captionY });
    write(sheet, fonts.small, note, { x: margin, y: captionY + textHeight(fonts.caption, caption), opacity: 0.55 });
    cells.forEach((cell, column) => {
      const x = columnXs[column] + Math.floor((columnWidths[column] - cell.image.width) / 2);
      frame(sheet, { x: x - 1, y: y - 1, width: cell.image.width + 2, height: cell.image.height + 2 });
      sheet.composite(cell.image, x, y);
      write(sheet, fonts.small, cell.caption, {
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
 * Lays pictures of one size edge to edge, row by row, as diffusers' `make_image_grid`.
 *
 * @throws {ImageError} Where there is no picture, or one has another size than the first.
 */
export function pictureGrid(pictures: readonly Picture[], options: { columns?: number } = {}): Picture {
  if (pictures.length === 0) throw new ImageError("Cannot lay out a grid of no pictures");
  const columns = options.columns ?? Math.ceil(Math.sqrt(pictures.length));
  if (!Number.isInteger(columns) || columns < 1) {
    throw new ImageError(`Cannot lay out a grid of ${columns} columns: it takes a whole number from 1`, {
      actual: columns,
    });
  }
  const { width, height } = pictures[0];
  const gridWidth = width * columns;
  const gridHeight = height * Math.ceil(pictures.length / columns);
  const data = new Uint8Array(gridWidth * gridHeight * 3).fill(255);
  pictures.forEach((picture, i) => {
    if (picture.width !== width || picture.height !== height) {
      throw new ImageError(
        `Cannot lay out picture ${i} of ${picture.width} × ${picture.height} in a grid of ${width} × ${height}`,
        { expected: width, actual: picture.width },
      );
    }
    const left = (i % columns) * width;
    const top = Math.floor(i / columns) * height;
    for (let row = 0; row < height; row++) {
      const pixels = picture.data.subarray(row * width * 3, (row + 1) * width * 3);
      data.set(pixels, ((top + row) * gridWidth + left) * 3);
    }
  });
  return { data, width: gridWidth, height: gridHeight };
}

/**
 * Enlarges a picture by the largest whole factor, up to {@linkcode maxEnlargement}, that keeps it
 * within `cellSize` image pixels. Larger pictures stay as they are.
 */
function enlarge(picture: Picture, options: { cellSize: number; smooth: boolean }): JimpImage {
  const image = toJimp(picture);
  const factor = Math.min(maxEnlargement, Math.floor(options.cellSize / Math.max(picture.width, picture.height)));
  if (factor < 2) return image;
  const mode = options.smooth ? "bicubicInterpolation" : "nearestNeighbor";
  image.resize({ w: picture.width * factor, h: picture.height * factor, mode: mode as never });
  return image;
}

type Faces = Record<keyof typeof textSizes, Face>;

/** The faces of a sheet, by its density. */
const loadedFaces = new Map<1 | 2, Promise<Faces>>();

function loadFaces(density: 1 | 2): Promise<Faces> {
  let faces = loadedFaces.get(density);
  if (!faces) loadedFaces.set(density, faces = readFaces(density));
  return faces;
}

async function readFaces(density: 1 | 2): Promise<Faces> {
  // Imported on first use: the module looks for files on disk, and so does not load in browsers.
  const { SANS_16_BLACK, SANS_32_BLACK, SANS_64_BLACK } = await import("jimp/fonts");
  const fonts = { 16: SANS_16_BLACK, 32: SANS_32_BLACK, 64: SANS_64_BLACK };
  const faces = Object.entries(textSizes).map(async ([use, size]) => {
    const pixels = size * density;
    const nominal = ([16, 32, 64] as const).find((nominal) => nominal >= pixels)!;
    const font = await loadFont(fontUrl(fonts[nominal]));
    const scale = pixels / nominal;
    return [use, { font, scale, lineHeight: Math.round(1.25 * pixels) }] as const;
  });
  return Object.fromEntries(await Promise.all(faces)) as Faces;
}

/** Width of a text in image pixels. */
function measure({ font, scale }: Face, text: string): number {
  return Math.ceil(measureText(font, text) * scale);
}

/** jimp names its fonts by path, and outside of Node loads them by URL alone. */
function fontUrl(path: string): string {
  if (path.startsWith("/")) return `file://${path}`;
  return /^[A-Za-z]:[\\/]/.test(path) ? `file:///${path.replaceAll("\\", "/")}` : path;
}

const spelled: Record<string, string> = {
  "λ": "lambda",
  "σ": "sigma",
  "η": "eta",
  "→": "->",
  "←": "<-",
  "–": "-",
  "—": "-",
  "…": "...",
  "`": "'",
  "‘": "'",
  "’": "'",
  "“": '"',
  "”": '"',
  "−": "-",
  "≤": "<=",
  "≥": ">=",
};

/**
 * Breaks a text into lines of at most `width` pixels: at its newlines, between words, and inside of
 * overlong words.
 */
function breakLines(face: Face, text: string, width: number): string[] {
  if (text === "") return [];
  const printable = Array.from(text, (character) => spelled[character] ?? character)
    .join("").replace(/[^\n]/gu, (character) => character in face.font.chars ? character : "?");
  const lines: string[] = [];
  for (const paragraph of printable.split("\n")) {
    let line = "";
    for (const word of paragraph.split(" ")) {
      const joined = line === "" ? word : `${line} ${word}`;
      if (measure(face, joined) <= width) {
        line = joined;
        continue;
      }
      if (line !== "") lines.push(line);
      line = "";
      for (const character of word) {
        if (line !== "" && measure(face, line + character) > width) {
          lines.push(line);
          line = "";
        }
        line += character;
      }
    }
    lines.push(line);
  }
  return lines;
}

function textHeight({ lineHeight }: Face, lines: readonly string[]): number {
  return lines.length * lineHeight;
}

/** Writes lines at x, y; centred where a width is given, fainter with less opacity. */
function write(
  sheet: JimpImage,
  face: Face,
  lines: readonly string[],
  options: { x: number; y: number; width?: number; opacity?: number },
): void {
  const { x, y, width, opacity = 0.9 } = options;
  const { font, scale, lineHeight } = face;
  lines.forEach((text, i) => {
    const textWidth = measure(face, text);
    if (textWidth === 0) return;
    // Printed on a transparent layer: the fonts come in opaque black only, and at their own size.
    const layer = new Jimp({ width: measureText(font, text) + 8, height: font.common.lineHeight + 8 });
    layer.print({ font: font as never, x: 0, y: 0, text });
    if (scale < 1) layer.resize({ w: Math.round(layer.width * scale), h: Math.round(layer.height * scale) });
    layer.opacity(opacity);
    const left = width === undefined ? x : x + Math.round((width - textWidth) / 2);
    sheet.composite(layer, left, y + i * lineHeight);
  });
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
