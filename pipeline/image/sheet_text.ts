/**
 * Text on contact sheets: bitmap fonts, line breaking and printing.
 *
 * @module
 */
import { Jimp, loadFont, measureText } from "jimp";
import { ImageError } from "./errors.ts";
import type { JimpImage } from "./jimp_image.ts";

type Font = Awaited<ReturnType<typeof loadFont>>;

/** Image pixels per layout pixel. */
export type Density = 1 | 2;

/** Text sizes in layout pixels. */
const textSizes = { title: 20, heading: 14, caption: 14, small: 12 } as const;

/** A bitmap font, scaled down from its nominal size when it is printed. */
export interface Face {
  readonly font: Font;
  readonly scale: number;
  /** In image pixels. */
  readonly lineHeight: number;
}

/** The face of each use of text. */
export type Faces = Record<keyof typeof textSizes, Face>;

/** Loaded faces, by density. */
const loadedFaces = new Map<Density, Promise<Faces>>();

/** Loads the fonts of a density once. */
export function loadFaces(density: Density): Promise<Faces> {
  let faces = loadedFaces.get(density);
  if (!faces) loadedFaces.set(density, faces = readFaces(density));
  return faces;
}

async function readFaces(density: Density): Promise<Faces> {
  const fonts = await fontFiles();
  const faces = Object.entries(textSizes).map(async ([use, size]) => {
    const pixels = size * density;
    const nominal = ([16, 32, 64] as const).find((nominal) => nominal >= pixels)!;
    const font = await loadFont(fontUrl(fonts[nominal]));
    const scale = pixels / nominal;
    return [use, { font, scale, lineHeight: Math.round(1.25 * pixels) }] as const;
  });
  return Object.fromEntries(await Promise.all(faces)) as Faces;
}

/**
 * The paths of jimp's fonts. Their module imports Node's, so that browsers cannot load it; with an
 * address that is computed, bundles for browsers leave it out.
 *
 * @throws {ImageError} in browsers
 */
async function fontFiles(): Promise<typeof import("./sheet_fonts.ts").fontFiles> {
  const address = new URL("./sheet_fonts.ts", import.meta.url).href;
  try {
    return (await import(address)).fontFiles;
  } catch (cause) {
    throw new ImageError(
      "Cannot draw text on a sheet as its fonts are files on disk: draw sheets in Deno, or the pictures alone",
      { cause },
    );
  }
}

/** Width of a text in image pixels. */
function measure({ font, scale }: Face, text: string): number {
  return Math.ceil(measureText(font, text) * scale);
}

/**
 * Converts a font's path to a URL: jimp names fonts by path, but loads them by URL outside Node.
 */
function fontUrl(path: string): string {
  if (path.startsWith("/")) return `file://${path}`;
  return /^[A-Za-z]:[\\/]/.test(path) ? `file:///${path.replaceAll("\\", "/")}` : path;
}

/** Replacements for characters that the fonts lack. */
const replacements: Record<string, string> = {
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
 * Breaks a text into lines of at most `width` image pixels: at newlines, between words, and inside
 * words that are longer than a line. Text beyond `maxLines` is cut, and the last line ends in dots.
 */
export function breakLines(face: Face, text: string, width: number, maxLines: number = Infinity): string[] {
  const lines = allLines(face, text, width);
  if (lines.length <= maxLines) return lines;
  let last = lines[maxLines - 1];
  while (last !== "" && measure(face, `${last}...`) > width) last = last.slice(0, -1);
  return [...lines.slice(0, maxLines - 1), `${last.trimEnd()}...`];
}

function allLines(face: Face, text: string, width: number): string[] {
  if (text === "") return [];
  const printable = Array.from(text, (character) => replacements[character] ?? character)
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

/** Height of a text in image pixels. */
export function textHeight({ lineHeight }: Face, lines: readonly string[]): number {
  return lines.length * lineHeight;
}

/** Prints lines of text at x, y; centered if a width is given. */
export function printLines(
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
    // Printed on a transparent layer first, because the fonts are opaque black and of a fixed size.
    const layer = new Jimp({ width: measureText(font, text) + 8, height: font.common.lineHeight + 8 });
    layer.print({ font: font as never, x: 0, y: 0, text });
    if (scale < 1) layer.resize({ w: Math.round(layer.width * scale), h: Math.round(layer.height * scale) });
    layer.opacity(opacity);
    const left = width === undefined ? x : x + Math.round((width - textWidth) / 2);
    sheet.composite(layer, left, y + i * lineHeight);
  });
}
