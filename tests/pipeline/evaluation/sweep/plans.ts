import { planSweep, type SweepRow, type SweepSettings } from "../../../../pipeline/evaluation/sweep/plan.ts";
import { settingsOfGrid } from "../../../../pipeline/evaluation/sweep/settings.ts";

/** Two edits with one related and one unrelated prompt each. */
export const rows: SweepRow[] = ["rose", "cat"].map((name) => ({
  source: `a ${name}`,
  destination: `a blue ${name}`,
  related: [{ prompt: `two ${name}s`, edited: `two blue ${name}s` }],
  unrelated: [{ prompt: "a lemon", edited: "a blue lemon" }],
}));

/** Settings of a plan: one λ unless others are given. */
export function settings(
  lambdas: readonly number[] = [1],
  methods: ("edit" | "baseline" | "oracle")[] = ["edit"],
): SweepSettings {
  return {
    pins: { version: "1.2.3", modelHash: "ab" },
    model: "m",
    clip: "c",
    settings: settingsOfGrid({ methods, lambdas, withToK: [true], preserve: [false] }),
    steps: 2,
    cfgScale: 5,
  };
}

/** A plan of {@linkcode rows}. */
export function planOf(seeds: number, given: SweepSettings = settings()): ReturnType<typeof planSweep> {
  return planSweep(rows, { seeds, firstSeed: 7 }, given);
}
