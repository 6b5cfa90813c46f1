/**
 * The outcome of a sweep as plain tables: for a terminal, and as CSV.
 *
 * @module
 */
import { stringify } from "@std/csv/stringify";
import { bestSettings, type MeasureSummary, type ScoreSummary, type SweepSummary } from "./merge.ts";

/** A rate as a percentage with one decimal, without the sign; "–" without pictures. */
export function percent(rate: number): string {
  return Number.isFinite(rate) ? (100 * rate).toFixed(1) : "–";
}

/** A value with two decimals; "–" if there is none. */
export function decimals(value: number): string {
  return Number.isFinite(value) ? value.toFixed(2) : "–";
}

/** "83.3 [55.2, 95.3]": a rate and its interval, in percent. */
export function rateText({ rate, interval: { low, high }, pictures }: MeasureSummary): string {
  return pictures === 0 ? "–" : `${percent(rate)} [${percent(low)}, ${percent(high)}]`;
}

/** The table of a terminal: one line for each setting. */
export function summaryTable({ settings }: SweepSummary): string {
  const head = ["", "efficacy", "generality", "specificity", "harmonic mean", "CLIP score", "pictures"];
  const rows = settings.map(({ setting, pictures, measures, harmonicMean, clipScore }) => [
    setting.name,
    ...measures.map(rateText),
    percent(harmonicMean),
    decimals(clipScore),
    String(pictures),
  ]);
  const lines = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines.map((line) => line.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()).join("\n");
}

/** The best setting of each editor, in a line each; none where no editor has several settings. */
export function bestLines(summary: SweepSummary): string[] {
  const editors = summary.settings.flatMap(({ setting }) => setting.editor?.method ?? []);
  if (new Set(editors).size === editors.length) return [];
  return bestSettings(summary).map(({ setting, harmonicMean }) =>
    `best of ${setting.editor!.method}: ${setting.name}, harmonic mean ${percent(harmonicMean)}`
  );
}

/**
 * CSV with one line for each setting (`source` and `destination` are empty) and one for each
 * setting and edit. Values that do not exist are empty.
 */
export function summaryCsv({ settings }: SweepSummary): string {
  const lines = settings.flatMap(({ setting, edits, ...all }) => {
    const { method, editor } = setting;
    const head = {
      setting: setting.name,
      method,
      editor: editor?.method ?? "",
      lambda: editor?.lamb ?? "",
      values_only: editor === undefined ? "" : !editor.withToK,
      with_pooled: editor === undefined ? "" : editor.withPooled ?? false,
      preserve: editor?.preserve ?? "",
      tokens: editor?.tokens ?? "",
      erase_scale: editor?.eraseScale ?? "",
      preserve_scale: editor?.preserveScale ?? "",
      threshold: editor?.threshold ?? "",
      retain_scale: editor?.retainScale ?? "",
      influence_filter: editor?.influenceFilter ?? "",
      augment: editor?.augment ?? "",
    };
    return [
      { ...head, source: "", destination: "", ...csvScores(all) },
      ...edits.map(({ source, destination, ...scores }) => ({ ...head, source, destination, ...csvScores(scores) })),
    ];
  });
  return stringify(lines, { columns: Object.keys(lines[0]) }).replaceAll("\r\n", "\n");
}

function csvScores({ measures, harmonicMean, f, clipScore }: ScoreSummary): Record<string, string | number> {
  const given = (value: number) => Number.isFinite(value) ? value : "";
  return Object.fromEntries([
    ...measures.flatMap(({ measure, rate, interval, pictures }): [string, string | number][] => [
      [measure, given(rate)],
      [`${measure}_low`, given(interval.low)],
      [`${measure}_high`, given(interval.high)],
      [`${measure}_pictures`, pictures],
    ]),
    ["harmonic_mean", given(harmonicMean)],
    ["f", given(f)],
    ["clip_score", given(clipScore)],
  ]);
}
