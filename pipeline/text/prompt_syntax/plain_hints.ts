/** Points out text that means something in AUTOMATIC1111's web UI and nothing in plain prompts. */

import { advise } from "../../advice.ts";
import { warn } from "../../safe_text.ts";

interface Hint {
  readonly pattern: RegExp;
  readonly meaning: string;
}

const hints: readonly Hint[] = [
  { pattern: /<(?:lora|lyco|hypernet):[^<>]*>/i, meaning: "loads an adapter" },
  { pattern: /\([^()]*:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)|\(\([^()]*\)\)/, meaning: "weights words" },
  { pattern: /\[[^[\]]+\]/, meaning: "weakens or schedules words" },
  { pattern: /\bBREAK\b/, meaning: "begins a new chunk of the prompt" },
  { pattern: /\bAND\b/, meaning: "composes prompts" },
  { pattern: /\\[()[\]]/, meaning: "escapes a bracket" },
];

/** Hints that have been given for a tokenizer: one of each kind for a pipeline is enough. */
const given = new WeakMap<object, Set<Hint>>();

/**
 * Warns of text in another syntax, once for each kind and pipeline.
 *
 * @param owner stands for the pipeline: its tokenizer
 */
export function hintAtSyntax(text: string, owner: object): void {
  const told = given.get(owner) ?? new Set<Hint>();
  given.set(owner, told);
  for (const hint of hints) {
    const found = hint.pattern.exec(text)?.[0];
    if (found === undefined || told.has(hint)) continue;
    told.add(hint);
    warn(
      `The prompt holds ${JSON.stringify(found.slice(0, 80))}, which ${hint.meaning} in A1111's syntax: ` +
        `it is read as plain text, as diffusers does; ${advise("readAsA1111")}`,
    );
  }
}
