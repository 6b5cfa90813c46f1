import { picturesOfJob, type SweepPlan, type SweepResult } from "./plan.ts";

/**
 * The file name of a result's picture: SETTING_ROW_SEED_MEASURE_I.png, with indices of the plan, so
 * that a resumed run does not use a name again.
 */
export function pictureName(
  plan: Pick<SweepPlan, "rows">,
  result: Omit<SweepResult, "plan" | "logits" | "logitScale" | "fits">,
): string {
  const { row, setting, seed, measure, prompt, edited } = result;
  const jobSeed = measure === "list" ? 0 : seed;
  const i = picturesOfJob(plan, { row, setting, seed: jobSeed }).findIndex((each) =>
    each.measure === measure && each.prompt === prompt && each.edited === edited && each.seed === seed
  );
  return `${setting}_${row}_${seed}_${measure}_${i}.png`;
}
