/**
 * Makes texts of strangers' files safe to print: names of tensors, prompts, paths.
 *
 * @module
 */

import { hideUrlSecrets } from "./secrets.ts";

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

/** A name of a stranger's file for a message: on one line, and cut after `most` characters. */
export function nameText(name: string, most = 200): string {
  const cut = name.length > most ? `${name.slice(0, most)}…` : name;
  return escapeControls(cut).replaceAll("\n", "\\n").replaceAll("\t", "\\t");
}

/** The longest line of a message. The longest paths are shorter. */
const longestLine = 8000;

/** The text of an error or warning as it may be printed: without secrets and control characters. */
export function messageText(text: string): string {
  const safe = escapeControls(hideUrlSecrets(text));
  if (safe.length <= longestLine) return safe;
  return safe.split("\n").map((line) => line.length > longestLine ? `${line.slice(0, longestLine)}…` : line).join("\n");
}

/** Warns on the console. */
export function warn(text: string): void {
  console.warn(messageText(text));
}
