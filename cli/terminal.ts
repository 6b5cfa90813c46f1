/**
 * What the terminal can show: its width, and texts made safe for it.
 *
 * @module
 */
import { escapeControls } from "../pipeline/safe_text.ts";
import { hideUrlSecrets } from "../pipeline/secrets.ts";
import { environmentVariable } from "../pipeline/environment.ts";

const defaultWidth = 100, narrowest = 40, widest = 120;

/** Columns of the terminal: COLUMNS if it is set, else the terminal's own width, else 100. */
export function terminalWidth(): number {
  const columns = Number(environmentVariable("COLUMNS") ?? NaN);
  const wanted = Number.isInteger(columns) && columns > 0 ? columns : consoleColumns();
  return Math.min(widest, Math.max(narrowest, wanted));
}

function consoleColumns(): number {
  try {
    return Deno.stdout.isTerminal() ? Deno.consoleSize().columns : defaultWidth;
  } catch {
    return defaultWidth;
  }
}

/** Breaks a text between words into lines of at most `width` characters; keeps its newlines. */
export function wrap(text: string, width: number): string[] {
  return text.split("\n").flatMap((paragraph) => {
    const lines: string[] = [];
    let line = "";
    for (const word of paragraph.split(" ")) {
      if (line !== "" && line.length + 1 + word.length > width) {
        lines.push(line);
        line = word;
      } else line = line === "" ? word : `${line} ${word}`;
    }
    return [...lines, line];
  });
}

/** Breaks words that are longer than a line, such as JSON, where {@linkcode wrap} breaks none. */
export function brokenWords(text: string, width: number): string {
  return text.replace(/\S+/g, (word) => {
    const characters = [...word];
    if (characters.length <= width) return word;
    const pieces = Array.from(
      { length: Math.ceil(characters.length / width) },
      (_, i) => characters.slice(i * width, (i + 1) * width).join(""),
    );
    return pieces.join("\n");
  });
}

/** Hides the secrets of URLs and headers, and this user's own token of the hub. */
export function hideSecrets(text: string): string {
  const token = environmentVariable("HF_TOKEN") ?? environmentVariable("HUGGING_FACE_HUB_TOKEN");
  return hideUrlSecrets(token !== undefined && token.length >= 6 ? text.replaceAll(token, "***") : text);
}

/** A text as it may be printed. */
export function printable(text: string): string {
  return escapeControls(hideSecrets(text));
}
