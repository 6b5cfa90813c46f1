/**
 * Runs the jobs of a sweep: draws each picture and scores it with CLIP.
 *
 * @module
 */
import { samplerByName } from "../../../schedulers/mod.ts";
import { ModelEdit } from "../../editing/model_edit.ts";
import type { Picture } from "../../image/picture.ts";
import type { StableDiffusionModelEditingPipeline } from "../../model_editing.ts";
import { defaultBatchSize, type DrawingOptions, drawPictures, type PictureRequest } from "../draw_pictures.ts";
import type { Judge } from "../evaluate_edits.ts";
import { fitOf, type PendingJob, type SweepJob, type SweepPlan, type SweepPrompt, type SweepResult } from "./plan.ts";

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
 * Draws and scores the pictures of jobs. Yields once per batch, so that a caller can store the
 * results and resume after an interruption. Uses the plan's sampler and restores the pipeline's own
 * at the end.
 *
 * ```ts
 * const { plan, fingerprint } = await parsePlan(bytes, "plan.json");
 * const jobs = pendingJobs(plan, jobsOfShard(plan.jobs, { index: 1, count: 8 }), []);
 * for await (const scored of runSweep(pipe, clip, { plan, fingerprint, jobs })) {
 *   for (const { result } of scored) console.log(formatResult(result));
 * }
 * ```
 *
 * @throws {AlignmentError} {IllConditionedError} as `ModelEdit.solve` does
 */
export async function* runSweep(
  pipe: StableDiffusionModelEditingPipeline,
  judge: Judge,
  work: { plan: SweepPlan; fingerprint: string; jobs: readonly PendingJob[] },
  options: Omit<DrawingOptions, "steps" | "guidance"> = {},
): AsyncGenerator<ScoredPicture[], void, void> {
  const { plan, fingerprint, jobs } = work;
  const { batchSize = defaultBatchSize } = options;
  const { scheduler } = pipe;
  if (plan.samplingMethod !== undefined) pipe.scheduler = samplerByName(plan.samplingMethod, scheduler.config);
  try {
    for (const { row, seed, prompts } of jobs) {
      using edit = await solveRow(pipe, plan, row);
      const requests = prompts.map((prompt): PictureRequest => ({ prompt: promptToDraw(plan, prompt), seed, edit }));
      const settings = { ...options, steps: plan.steps, guidance: plan.cfgScale };
      for (let first = 0; first < requests.length; first += batchSize) {
        const pictures = await drawPictures(pipe, requests.slice(first, first + batchSize), settings);
        const scored = await score(pictures, prompts.slice(first, first + batchSize), { row, seed });
        yield scored.map((each, i) => ({ ...each, drawn: requests[first + i].prompt, edit }));
      }
    }
  } finally {
    pipe.scheduler = scheduler;
  }

  async function score(pictures: readonly Picture[], prompts: readonly SweepPrompt[], job: SweepJob) {
    const scored: Pick<ScoredPicture, "picture" | "result">[] = [];
    for (const [i, picture] of pictures.entries()) {
      const { measure, prompt, edited } = prompts[i];
      const [own, other] = await judge.score([picture], [prompt, edited]);
      const fits = fitOf(own, other);
      const logits = [own, other] as const;
      scored.push({ picture, result: { plan: fingerprint, ...job, measure, prompt, edited, logits, fits } });
    }
    return scored;
  }
}

async function solveRow(
  pipe: StableDiffusionModelEditingPipeline,
  plan: SweepPlan,
  row: number,
): Promise<ModelEdit | undefined> {
  if (plan.method !== "edit") return undefined;
  const { source, destination } = plan.rows[row];
  return await ModelEdit.solve([{ source, destination }], { lamb: plan.lambda, withToK: !plan.valuesOnly }, pipe);
}

/** The oracle draws the edited prompt itself where an edit should take effect. */
function promptToDraw({ method }: SweepPlan, { measure, prompt, edited }: SweepPrompt): string {
  return method === "oracle" && measure !== "specificity" ? edited : prompt;
}
