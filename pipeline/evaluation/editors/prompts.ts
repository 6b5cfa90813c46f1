/**
 * The test prompts of several edits that act together.
 *
 * @module
 */
import { type EditCase, editedForms } from "../edit_cases.ts";
import type { Measure } from "../edit_scores.ts";

/** A prompt, and the forms that count as its edited one. */
export interface GroupPrompt {
  /** What its pictures count toward. */
  readonly measure: Measure;
  /** The prompt to draw. */
  readonly prompt: string;
  /** Its edited form; for an unrelated prompt, one for each edit that it must not take. */
  readonly edited: readonly string[];
}

/** Splits cases into groups of `count` successive ones; those that fill no group are left out. */
export function groupsOf(cases: readonly EditCase[], count: number): EditCase[][] {
  return Array.from({ length: Math.floor(cases.length / count) }, (_, i) => cases.slice(i * count, (i + 1) * count));
}

/**
 * The prompts of a group of edits: its sources, its related prompts, and those unrelated prompts
 * that are about nothing that any case edits. So the unrelated prompts of a case are the same
 * however many edits act.
 *
 * @param all all cases of the evaluation
 */
export function promptsOfGroup(group: readonly EditCase[], all: readonly EditCase[]): GroupPrompt[] {
  const sources = all.map(({ source }) => source);
  const unrelated = group.flatMap((each) => each.unrelated).filter(({ prompt }) => !isAbout(prompt, sources));
  return [
    ...group.map(({ source, destination, also }): GroupPrompt => ({
      measure: "efficacy",
      prompt: source,
      edited: editedForms({ edited: destination, also }),
    })),
    ...group.flatMap(({ related }) =>
      related.map((pair): GroupPrompt => ({
        measure: "generality",
        prompt: pair.prompt,
        edited: editedForms(pair),
      }))
    ),
    ...[...Map.groupBy(unrelated, ({ prompt }) => prompt)].map(([prompt, pairs]): GroupPrompt => ({
      measure: "specificity",
      prompt,
      edited: [...new Set(pairs.flatMap(editedForms))],
    })),
  ];
}

/** Whether a prompt shows a thing that one of the sources names. */
export function isAbout(prompt: string, sources: readonly string[]): boolean {
  const subjects = new Set(sources.flatMap(singulars));
  return singulars(prompt).some((word) => subjects.has(word));
}

/** Words that say nothing of what a prompt is about, and the ways in which prompts show a thing. */
const frames = new Set("a an the of on in at with and two three pack field painting photo".split(" "));

/** The words of a prompt in lower case, without a plural's s. */
function singulars(text: string): string[] {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.filter((word) => !frames.has(word)).map((word) => word.replace(/(?<=..)s$/, ""));
}

/**
 * Whether an edit must pair last tokens, as its destination is not the source with words added.
 * Then TIME needs `tokens: "last"`. "an" equals "a", as where tokens are aligned.
 */
export function needsLastTokens({ source, destination }: Pick<EditCase, "source" | "destination">): boolean {
  const words = (text: string) =>
    (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).map((word) => word === "an" ? "a" : word);
  const wanted = words(source);
  const found = words(destination).reduce((found, word) => word === wanted[found] ? found + 1 : found, 0);
  return found < wanted.length;
}
