/**
 * What a plan was made for, compared with what a run finds.
 *
 * @module
 */
import type { SweepPins } from "./plan.ts";
import { SweepError } from "./sweep_error.ts";

/**
 * Refuses to draw a plan's pictures with a model or a version of this package that it was not made
 * for. A pin that the plan does not have is not compared.
 *
 * @param path the plan's file, for messages
 * @throws {SweepError} with the plan's value and the value found
 */
export function checkPins(
  pins: SweepPins,
  found: Partial<SweepPins>,
  { path, anyModel = false, anyVersion = false }: { path: string; anyModel?: boolean; anyVersion?: boolean },
): void {
  const what = {
    version: "this version of Blue Rose",
    revision: "this revision of the model",
    modelHash: "this model's files",
    clipHash: "this CLIP model's files",
  } as const;
  for (const name of Object.keys(what) as (keyof SweepPins)[]) {
    if (name in found === false || pins[name] === undefined || pins[name] === found[name]) continue;
    if (name === "version" ? anyVersion : anyModel) continue;
    const advice = name === "version"
      ? "Use that version, plan again, or allow it with anyVersion"
      : "Use that model, plan again, or allow it with anyModel";
    throw new SweepError(
      `Cannot run ${path} with ${what[name]} as the plan was made for another: it has ${pins[name]}, found ${
        found[name] ?? "none"
      }. ${advice}`,
      { path },
    );
  }
}
