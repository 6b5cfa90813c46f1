/**
 * What can be told of a plan's edits before anything is drawn.
 *
 * @module
 */
import { type AlignmentTokenizer, alignPrompts } from "../../editing/prompts/alignment.ts";
import { alignLastTokens } from "../../editing/prompts/concepts.ts";
import { withoutErased } from "../../editing/prompts/retained.ts";
import { pairsLast } from "../../editing/prompts/method.ts";
import type { SweepJob, SweepPlan } from "./plan.ts";
import { solveOptions } from "./settings.ts";
import { SweepError } from "./sweep_error.ts";

/**
 * Checks the edits of jobs: that words align where an editor aligns them, and that a null-space
 * edit has prompts to preserve.
 *
 * @throws {AlignmentError} {EditError} for a pair that its editor cannot align
 * @throws {SweepError} for a null-space edit without prompts to preserve
 */
export function checkEdits(
  plan: Pick<SweepPlan, "rows" | "settings" | "retained">,
  jobs: readonly SweepJob[],
  tokenizer: AlignmentTokenizer,
): void {
  checkRetained(plan, "the plan", jobs);
  for (const { row, setting } of edited(jobs)) {
    const { editor } = plan.settings[setting];
    if (editor === undefined) continue;
    const { source, destination } = plan.rows[row];
    (pairsLast(editor) ? alignLastTokens : alignPrompts)(source, destination, tokenizer);
  }
}

/**
 * Checks that null-space edits have prompts to preserve.
 *
 * @param path names the plan or data set, for the message
 * @param jobs the jobs whose edits are checked. Default: those of all rows and settings
 * @throws {SweepError} for the first row without one
 */
export function checkRetained(
  { rows, settings, retained }: Pick<SweepPlan, "rows" | "settings" | "retained">,
  path: string,
  jobs: readonly Omit<SweepJob, "seed">[] = rows.flatMap((_, row) => settings.map((_, setting) => ({ row, setting }))),
): void {
  for (const { row, setting } of edited(jobs)) {
    const { editor } = settings[setting];
    if (editor?.method !== "nullspace") continue;
    const { source } = rows[row];
    const { preserve = [] } = solveOptions(editor, rows[row], retained);
    if (withoutErased(preserve, [source]).kept.length > 0) continue;
    throw new SweepError(
      `Cannot sweep over ${path} by the method nullspace: row ${row + 1}, ${JSON.stringify(source)}, has ${
        preserve.length === 0 ? "no prompt to preserve" : "only prompts to preserve that contain its source's words"
      }. Give retained prompts for all rows`,
      { path },
    );
  }
}

/** One job of each row and setting. */
function edited(jobs: readonly Omit<SweepJob, "seed">[]): Omit<SweepJob, "seed">[] {
  return [...new Map(jobs.map((job) => [`${job.row}/${job.setting}`, job])).values()];
}
