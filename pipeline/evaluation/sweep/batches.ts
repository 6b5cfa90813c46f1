/**
 * Batches of a sweep: what is drawn in one call, and which batches are still to be drawn.
 *
 * @module
 */
import { checkOptions, wholeFrom } from "../../options.ts";
import {
  pictureKey,
  picturesOfJob,
  type PlannedPicture,
  type SweepJob,
  type SweepPlan,
  type SweepResult,
} from "./plan.ts";

/** Pictures of one job that are drawn in one call. */
export interface SweepBatch {
  /** The job. */
  readonly job: SweepJob;
  /** The pictures to draw. */
  readonly pictures: readonly PlannedPicture[];
  /** Keys of those that have a result already. */
  readonly done: ReadonlySet<string>;
}

/**
 * The batches that lack a result. A batch is drawn whole even where some of its results exist: a
 * picture's last digits may depend on the size of its batch, and a resumed run must give the
 * results of an uninterrupted one.
 *
 * @throws {OptionError} for a batch size that is no whole number from 1
 */
export function pendingBatches(
  plan: Pick<SweepPlan, "rows">,
  jobs: readonly SweepJob[],
  { results, batchSize }: { results: readonly SweepResult[]; batchSize: number },
): SweepBatch[] {
  checkOptions("divide a sweep", { batchSize }, { batchSize: wholeFrom(1) });
  const known = new Set(results.map(pictureKey));
  return jobs.flatMap((job) => {
    const pictures = picturesOfJob(plan, job);
    const batches: SweepBatch[] = [];
    for (let first = 0; first < pictures.length; first += batchSize) {
      const batch = pictures.slice(first, first + batchSize);
      const done = new Set(batch.map((picture) => pictureKey({ ...job, ...picture })).filter((key) => known.has(key)));
      if (done.size < batch.length) batches.push({ job, pictures: batch, done });
    }
    return batches;
  });
}

/** The number of results that batches will add. */
export function missingPictures(batches: readonly SweepBatch[]): number {
  return batches.reduce((sum, { pictures, done }) => sum + pictures.length - done.size, 0);
}
