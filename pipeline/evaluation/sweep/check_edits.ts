/**
 * What can be told of a plan's edits before anything is drawn.
 *
 * @module
 */
import { type EditableModel, pooledEncoder } from "../../editing/editable_model.ts";
import { alignPrompts } from "../../editing/prompts/alignment.ts";
import { alignLastTokens } from "../../editing/prompts/concepts.ts";
import { withoutErased } from "../../editing/prompts/retained.ts";
import { pairsLast } from "../../editing/prompts/method.ts";
import { pairsOfRow, type SweepJob, type SweepPlan } from "./plan.ts";
import { solveOptions, sourcesOf } from "./settings.ts";
import { SweepError } from "./sweep_error.ts";

/**
 * Checks the edits of jobs: that words align where an editor aligns them, that a null-space edit
 * has prompts to preserve, and that the model has a pooled embedding where one is mapped.
 *
 * @throws {AlignmentError} {EditError} for a pair that its editor cannot align, and for an edit
 *   `withPooled` of a model that is none of SDXL
 * @throws {SweepError} for a null-space edit without prompts to preserve
 */
export function checkEdits(
  plan: Pick<SweepPlan, "rows" | "settings" | "retained">,
  jobs: readonly SweepJob[],
  model: Pick<EditableModel, "tokenizer" | "encodePooled">,
): void {
  checkRetained(plan, "the plan", jobs);
  for (const { row, setting } of edited(jobs)) {
    const { editor } = plan.settings[setting];
    if (editor === undefined) continue;
    if (editor.withPooled) pooledEncoder(model);
    for (const { source, destination } of pairsOfRow(plan.rows[row])) {
      (pairsLast(editor) ? alignLastTokens : alignPrompts)(source, destination, model.tokenizer);
    }
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
    const { preserve = [] } = solveOptions(editor, rows[row], retained);
    if (withoutErased(preserve, sourcesOf(rows[row])).kept.length > 0) continue;
    throw new SweepError(
      `Cannot sweep over ${path} by the method nullspace: row ${row + 1}, ${JSON.stringify(rows[row].source)}, has ${
        preserve.length === 0 ? "no prompt to preserve" : "only prompts to preserve that contain its source's words"
      }. Give retained prompts for all rows`,
      { path },
    );
  }
}

/**
 * Checks that no editor aligns all words with "", which has none.
 *
 * @param path names the plan or data set, for the message
 * @throws {SweepError} for the first row whose edit does
 */
export function checkErasures({ rows, settings }: Pick<SweepPlan, "rows" | "settings">, path: string): void {
  const aligning = settings.find(({ editor }) => editor !== undefined && !pairsLast(editor));
  const row = rows.findIndex((row) => pairsOfRow(row).some(({ destination }) => destination === ""));
  if (aligning === undefined || row < 0) return;
  throw new SweepError(
    `Cannot sweep over ${path} with ${JSON.stringify(aligning.name)}: row ${row + 1}, ${
      JSON.stringify(rows[row].source)
    }, is erased, and that setting pairs all tokens, of which "" has none. To pair the last ones, set tokens to "last"`,
    { path },
  );
}

/** One job of each row and setting. */
function edited(jobs: readonly Omit<SweepJob, "seed">[]): Omit<SweepJob, "seed">[] {
  return [...new Map(jobs.map((job) => [`${job.row}/${job.setting}`, job])).values()];
}
