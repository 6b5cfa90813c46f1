/**
 * Prompts from flags and files.
 *
 * @module
 */
import { ArgumentError } from "./argument_error.ts";
import { InputError, readTextOf } from "./files.ts";
import type { Flags } from "./flag_types.ts";

/** Prompts to draw. */
export const promptFlags = {
  prompt: { kind: "texts", alias: "p", group: "Prompts", help: "prompt to draw" },
  promptsFile: {
    kind: "text",
    placeholder: "FILE",
    group: "Prompts",
    help:
      "text file with one prompt per line; empty lines and lines that begin with # are skipped; - is standard input",
    access: { kind: "read", purpose: "read the prompts" },
  },
} as const satisfies Flags;

/** The prompts of -p, then those of --prompts-file. */
export async function promptsOf(
  { prompt, promptsFile }: { prompt: readonly string[]; promptsFile: string | undefined },
): Promise<string[]> {
  return [...prompt, ...(promptsFile === undefined ? [] : await promptLines(promptsFile, "--prompts-file"))];
}

/** As {@linkcode promptsOf}. @throws {ArgumentError} where there is none */
export async function requiredPrompts(
  values: { prompt: readonly string[]; promptsFile: string | undefined },
): Promise<string[]> {
  const prompts = await promptsOf(values);
  if (prompts.length > 0) return prompts;
  throw new ArgumentError("Cannot go on without -p or --prompt TEXT, or --prompts-file FILE: the prompts to draw", {
    argument: "--prompt",
  });
}

/**
 * The prompts of a file, one a line.
 *
 * @throws {InputError} where the file cannot be read or holds none
 */
export async function promptLines(path: string, flag: string): Promise<string[]> {
  const prompts = (await readTextOf(path, flag)).split(/\r\n|\n|\r/)
    .map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("#"));
  if (prompts.length > 0) return prompts;
  throw new InputError(`Cannot use ${flag} ${JSON.stringify(path)} as it holds no prompt: write one per line`, {
    path,
  });
}
