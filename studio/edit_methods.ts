/**
 * The editors that the studio offers, and what an edit of each needs. The page uses this without
 * the library.
 *
 * @module
 */

import { withoutErased } from "../pipeline/editing/prompts/retained.ts";
import type { EditMethod, EditSpec, PairSpec, RowTokens } from "./painter.ts";

/** An editor as the page offers it. */
export interface MethodFacts {
  readonly method: EditMethod;
  /** Its name for people. */
  readonly label: string;
  /** What it is for, as a sentence. */
  readonly use: string;
  /** λ of a new edit. */
  readonly lambda: number;
}

/** All editors, the default first. λ is the library's default. */
export const methods: readonly MethodFacts[] = [
  { method: "time", label: "TIME", use: "Changes what a word takes for granted.", lambda: 0.1 },
  { method: "uce", label: "UCE", use: "Turns one concept into another, or into nothing.", lambda: 0.5 },
  {
    method: "nullspace",
    label: "Null space",
    use: "Turns a concept into another, or nothing; locked prompts stay.",
    lambda: 0,
  },
];

/** Values of settings that an edit leaves out: the library's defaults. */
export const methodDefaults = { eraseScale: 1, preserveScale: 1, threshold: 0.1 } as const;

/** The editor of an edit. */
export function methodOf(edit: Pick<EditSpec, "method">): MethodFacts {
  const { method = "time" as const } = edit;
  return methods.find((facts) => facts.method === method)!;
}

/** Which tokens of a pair correspond: all of them, or the last of each prompt. */
export function tokensOf({ method }: Pick<EditSpec, "method">): RowTokens {
  return method === undefined ? "all" : "last";
}

/** Whether a pair says something. Where last tokens are paired, no destination means nothing. */
export function isComplete({ source, destination }: PairSpec, { method }: Pick<EditSpec, "method"> = {}): boolean {
  return source.trim() !== "" && (destination.trim() !== "" || method !== undefined);
}

/** Whether all pairs of an edit say something. */
export function isWritten(edit: Pick<EditSpec, "pairs" | "method">): boolean {
  return edit.pairs.every((pair) => isComplete(pair, edit));
}

/**
 * The preserved prompts that an edit leaves out: of a null-space edit, those that contain all words
 * of a source, because keeping them would undo the edit.
 */
export function leftOut({ method, pairs, preserve }: Pick<EditSpec, "method" | "pairs" | "preserve">): string[] {
  return method === "nullspace" ? withoutErased(preserve, pairs.map(({ source }) => source)).leftOut : [];
}

/**
 * Why an edit cannot be solved, in words of the page, as far as that is known before solving;
 * `undefined` if it can be.
 */
export function lacks(edit: Pick<EditSpec, "method" | "pairs" | "preserve">): string | undefined {
  if (edit.method !== "nullspace" || edit.preserve.length > leftOut(edit).length) return undefined;
  return "A null-space edit needs prompts that stay: lock at least one prompt whose words are none of the source's";
}
