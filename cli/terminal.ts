/**
 * What the terminal can show: its width, and texts made safe for it.
 *
 * @module
 */
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

/**
 * Control characters, which a terminal would obey, and marks that reorder text. Newlines and tabs
 * are kept.
 */
// deno-lint-ignore no-control-regex
const unsafe = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** Shows control characters as escapes: ESC becomes `\x1b`. Newlines and tabs stay. */
export function escapeControls(text: string): string {
  return text.toWellFormed().replace(unsafe, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** As {@linkcode escapeControls}, for JSON, whose texts take `\u` alone. */
export function escapeJsonControls(json: string): string {
  return json.replace(unsafe, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
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
