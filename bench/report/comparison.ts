/**
 * The comparison of two bench runs.
 *
 * @module
 */
import type { BenchReport } from "./report.ts";
import { digits, nameWidth, percent, ratio, stepName } from "./text.ts";

/** A change between two runs. */
export interface Change {
  readonly name: string;
  readonly beforeMs: number;
  readonly afterMs: number;
  /** New time divided by old: below 1 is faster. */
  readonly ratio: number;
}

/** The common entries of two runs, and the entries of only one. */
export interface Comparison {
  readonly changes: readonly Change[];
  readonly added: readonly string[];
  readonly missing: readonly string[];
}

/**
 * Matches two runs by kernel and shape, and by stage. The largest changes come first, gains and
 * losses alike.
 */
export function compareReports(before: BenchReport, after: BenchReport): Comparison {
  const times = ({ kernels, stages, fullSize = [] }: BenchReport) =>
    new Map([
      ...kernels.map(({ kernel, shape, ms }) => [`${kernel} ${shape}`, ms] as const),
      ...stages.map(({ stage, ms }) => [stage, ms] as const),
      ...fullSize.map((step) => [stepName(step), step.ms] as const),
    ]);
  return matched(times(before), times(after));
}

/** Matches two sets of times by name. */
export function matched(old: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): Comparison {
  const changes = [...now].filter(([name]) => old.has(name)).map(([name, afterMs]) => ({
    name,
    beforeMs: old.get(name)!,
    afterMs,
    ratio: afterMs / old.get(name)!,
  }));
  return {
    changes: changes.sort((a, b) => Math.abs(Math.log(b.ratio)) - Math.abs(Math.log(a.ratio))),
    added: [...now.keys()].filter((name) => !old.has(name)),
    missing: [...old.keys()].filter((name) => !now.has(name)),
  };
}

/**
 * A comparison as text: a line per common entry with the ratio new / old, then a summary line with
 * the number of common entries, the geometric mean of the ratios, the worst ratio, and the number
 * of slower entries. An entry whose ratio exceeds `1 + tolerance` is marked `slower`.
 *
 * @param options.quantity what the numbers are, and `unit` what they count. Default: times in ms
 */
export function comparisonText(
  { changes, added, missing }: Comparison,
  options: { beforeName: string; tolerance?: number; quantity?: string; unit?: string },
): string {
  const { beforeName, tolerance = 0.05, quantity = "times", unit = " ms" } = options;
  const isSlower = ({ ratio }: Change) => ratio > 1 + tolerance;
  return [
    `Compared with ${beforeName} (ratio of ${quantity}, new / old)`,
    ...changes.map((change) =>
      `  ${change.name.padEnd(nameWidth)}${digits(change.beforeMs).padStart(9)} → ${
        digits(change.afterMs).padStart(9)
      }${unit}  ${ratio(change.ratio)}${isSlower(change) ? "  slower" : ""}`
    ),
    ...(added.length > 0 ? [`  only in the new run: ${some(added)}`] : []),
    ...(missing.length > 0 ? [`  only in the old run: ${some(missing)}`] : []),
    comparisonSummary(changes, changes.filter(isSlower).length, tolerance),
  ].join("\n");
}

function comparisonSummary(changes: readonly Change[], slower: number, tolerance: number): string {
  if (changes.length === 0) return "0 entries in common";
  const mean = Math.exp(changes.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / changes.length);
  const worst = changes.reduce((most, change) => change.ratio > most.ratio ? change : most);
  return `${changes.length} entries in common, geometric mean ${ratio(mean)}, worst ${ratio(worst.ratio)} ` +
    `(${worst.name}), ${slower} slower by more than ${percent(tolerance)}`;
}

/** The first few names: a filtered run lacks most entries of a full one. */
function some(names: readonly string[]): string {
  const shown = 6;
  return names.slice(0, shown).join("; ") + (names.length > shown ? ` and ${names.length - shown} more` : "");
}
