/**
 * Runs the batches of a sweep: draws each picture and scores it with CLIP.
 *
 * @module
 */
import { samplerByName } from "../../../schedulers/mod.ts";
import { ModelEdit } from "../../editing/model_edit.ts";
import type { Picture } from "../../image/picture.ts";
import type { EditingPipeline } from "../../editing_pipeline.ts";
import { checkOptions, kinds } from "../../options.ts";
import { type DrawingOptions, drawPictures, type PictureRequest } from "../draw_pictures.ts";
import { editedForms } from "../edit_cases.ts";
import { type ComparedTexts, type Judge, judgePictures } from "../verdicts.ts";
import type { SweepBatch } from "./batches.ts";
import { fitOf, pairsOfRow, pictureKey, type PlannedPicture, type SweepPlan, type SweepResult } from "./plan.ts";
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

/** Options of {@linkcode runSweep}. */
export interface SweepRunOptions extends Pick<DrawingOptions, "signal"> {
  /**
   * Ends the sweep at the next good place: an edit that is being solved is given up, a batch that
   * is being drawn is finished and yielded.
   */
  readonly stop?: AbortSignal;
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
 * @throws the reason of `signal` or `stop` when it aborts
 */
export async function* runSweep(
  pipe: EditingPipeline,
  judge: Judge,
  work: { plan: SweepPlan; fingerprint: string; batches: readonly SweepBatch[] },
  options: SweepRunOptions = {},
): AsyncGenerator<ScoredPicture[], void, void> {
  checkOptions("run a sweep", options, { signal: kinds.signal, stop: kinds.signal });
  const { signal, stop } = options;
  const { plan, fingerprint, batches } = work;
  const { scheduler } = pipe;
  checkEdits(plan, batches.map(({ job }) => job), pipe);
  using edits = new RowEdits(pipe, plan);
  if (plan.samplingMethod !== undefined) pipe.scheduler = samplerByName(plan.samplingMethod, scheduler.config);
  try {
    for (const { job, pictures: planned, done } of batches) {
      const { method } = plan.settings[job.setting];
      stop?.throwIfAborted();
      const edit = await edits.of(job, either(signal, stop));
      const requests = planned.map((each): PictureRequest => ({
        prompt: promptToDraw(method, each),
        seed: each.seed,
        edit,
      }));
      const { steps, cfgScale: guidance = pipe.defaultGuidanceScale } = plan;
      const settings = { signal, steps, guidance, batchSize: requests.length };
      const pictures = await drawPictures(pipe, requests, settings);
      const scored: ScoredPicture[] = [];
      for (const [i, picture] of pictures.entries()) {
        const { measure, prompt, edited, seed } = planned[i];
        if (done.has(pictureKey({ ...job, ...planned[i] }))) continue;
        const [verdict] = await judgePictures(judge, [picture], [comparedTexts(planned[i])]);
        const logits = [verdict.own, verdict.edited] as const;
        const result = { plan: fingerprint, ...job, seed, measure, prompt, edited };
        const { logitScale = 100 } = judge;
        scored.push({
          picture,
          result: { ...result, logits, logitScale, fits: fitOf(...logits) },
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

  async of(
    { row, setting }: { row: number; setting: number },
    signal: AbortSignal | undefined,
  ): Promise<ModelEdit | undefined> {
    const { editor } = this.plan.settings[setting];
    if (editor === undefined) return undefined;
    const key = `${row}/${setting}`;
    if (key === this.#key) return this.#edit;
    this[Symbol.dispose]();
    const planned = this.plan.rows[row];
    const options = { ...solveOptions(editor, planned, this.plan.retained), signal };
    this.#edit = await ModelEdit.solve(pairsOfRow(planned), options, this.pipe);
    this.#key = key;
    return this.#edit;
  }

  [Symbol.dispose](): void {
    this.#edit?.[Symbol.dispose]();
    this.#edit = undefined;
    this.#key = "";
  }
}

/** The texts that CLIP compares a picture with. */
function comparedTexts({ prompt, own = prompt, ...forms }: PlannedPicture): ComparedTexts {
  return { own, edited: editedForms(forms) };
}

function either(...signals: (AbortSignal | undefined)[]): AbortSignal {
  return AbortSignal.any(signals.filter((signal) => signal !== undefined));
}

/** The oracle draws the edited prompt itself where an edit should take effect. */
function promptToDraw(method: SweepMethod, { measure, prompt, edited, oracle = edited }: PlannedPicture): string {
  return method === "oracle" && (measure === "efficacy" || measure === "generality") ? oracle : prompt;
}
