/**
 * Runs the batches of a sweep: draws each picture and scores it with CLIP.
 *
 * @module
 */
import { samplerByName } from "../../../schedulers/mod.ts";
import { ModelEdit } from "../../editing/model_edit.ts";
import type { Picture } from "../../image/picture.ts";
import type { EditingPipeline } from "../../editing_pipeline.ts";
import { type DrawingOptions, drawPictures, type PictureRequest } from "../draw_pictures.ts";
import type { Judge } from "../evaluate_edits.ts";
import type { SweepBatch } from "./batches.ts";
import { fitOf, pictureKey, type PlannedPicture, type SweepPlan, type SweepResult } from "./plan.ts";
import { checkEdits } from "./check_edits.ts";
import { solveOptions, type SweepMethod } from "./settings.ts";

/** A picture with its result. */
export interface ScoredPicture {
  /** The picture. */
  readonly picture: Picture;
  /** Its result. */
  readonly result: SweepResult;
  /** The prompt that was drawn: the oracle draws the edited one. */
  readonly drawn: string;
  /** The edit that acted, until the next pictures are asked for. */
  readonly edit: ModelEdit | undefined;
}

/**
 * Draws and scores the pictures of batches. Yields once per batch what had no result yet, so that a
 * caller can store the results and resume after an interruption. What can be known of all edits
 * without solving them is checked before the first picture is drawn. Uses the plan's sampler and
 * restores the pipeline's own at the end.
 *
 * ```ts ignore
 * const { plan, fingerprint } = await parsePlan(bytes, "plan.json");
 * const jobs = jobsOfShard(plan.jobs, { index: 1, count: 8 });
 * const batches = pendingBatches(plan, jobs, { results: [], batchSize: 8 });
 * for await (const scored of runSweep(pipe, clip, { plan, fingerprint, batches })) {
 *   for (const { result } of scored) console.log(formatResult(result));
 * }
 * ```
 *
 * @throws {SweepError} for a null-space edit without a prompt to preserve
 * @throws {AlignmentError} {IllConditionedError} as `ModelEdit.solve` does
 */
export async function* runSweep(
  pipe: EditingPipeline,
  judge: Judge,
  work: { plan: SweepPlan; fingerprint: string; batches: readonly SweepBatch[] },
  options: Pick<DrawingOptions, "signal"> = {},
): AsyncGenerator<ScoredPicture[], void, void> {
  const { plan, fingerprint, batches } = work;
  const { scheduler } = pipe;
  checkEdits(plan, batches.map(({ job }) => job), pipe.tokenizer);
  using edits = new RowEdits(pipe, plan);
  if (plan.samplingMethod !== undefined) pipe.scheduler = samplerByName(plan.samplingMethod, scheduler.config);
  try {
    for (const { job, pictures: planned, done } of batches) {
      const { method } = plan.settings[job.setting];
      const edit = await edits.of(job);
      const requests = planned.map((each): PictureRequest => ({
        prompt: promptToDraw(method, each),
        seed: each.seed,
        edit,
      }));
      const settings = { ...options, steps: plan.steps, guidance: plan.cfgScale, batchSize: requests.length };
      const pictures = await drawPictures(pipe, requests, settings);
      const scored: ScoredPicture[] = [];
      for (const [i, picture] of pictures.entries()) {
        const { measure, prompt, edited, own: ownText = prompt, seed } = planned[i];
        if (done.has(pictureKey({ ...job, ...planned[i] }))) continue;
        const [own, other] = await judge.score([picture], [ownText, edited]);
        const result = { plan: fingerprint, ...job, seed, measure, prompt, edited };
        const { logitScale = 100 } = judge;
        scored.push({
          picture,
          result: { ...result, logits: [own, other], logitScale, fits: fitOf(own, other) },
          drawn: requests[i].prompt,
          edit,
        });
      }
      yield scored;
    }
  } finally {
    pipe.scheduler = scheduler;
  }
}

/** The edit of the current row and setting, solved once for its successive batches. */
class RowEdits implements Disposable {
  #key = "";
  #edit: ModelEdit | undefined;

  constructor(readonly pipe: EditingPipeline, readonly plan: SweepPlan) {}

  async of({ row, setting }: { row: number; setting: number }): Promise<ModelEdit | undefined> {
    const { editor } = this.plan.settings[setting];
    if (editor === undefined) return undefined;
    const key = `${row}/${setting}`;
    if (key === this.#key) return this.#edit;
    this[Symbol.dispose]();
    const { source, destination, preserve } = this.plan.rows[row];
    const options = solveOptions(editor, { source, preserve }, this.plan.retained);
    this.#edit = await ModelEdit.solve([{ source, destination }], options, this.pipe);
    this.#key = key;
    return this.#edit;
  }

  [Symbol.dispose](): void {
    this.#edit?.[Symbol.dispose]();
    this.#edit = undefined;
    this.#key = "";
  }
}

/** The oracle draws the edited prompt itself where an edit should take effect. */
function promptToDraw(method: SweepMethod, { measure, prompt, edited, oracle = edited }: PlannedPicture): string {
  return method === "oracle" && (measure === "efficacy" || measure === "generality") ? oracle : prompt;
}
