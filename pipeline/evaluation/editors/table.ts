/**
 * The comparison of editors in words.
 *
 * @module
 */
import { countText } from "../../../engine/inspect.ts";
import type { Measure, Tally } from "../edit_scores.ts";
import { wilsonInterval } from "../wilson.ts";
import type { EditorResult } from "./compare.ts";

const measures: readonly Measure[] = ["efficacy", "generality", "specificity"];

const head = ["concepts", ...measures, "harmonic mean", "change", "leakage", "ms an edit"];

/** The table's head, behind names of the given width. */
export function comparisonHead(width: number): string {
  return ["".padEnd(width), ...head].join("  ");
}

/** One line of the table. The widths are those of the head. */
export function comparisonLine(result: EditorResult, width: number): string {
  const { editor, concepts, scores, unrelatedChange, leakage, solveMs } = result;
  const { harmonicMean } = scores;
  const cells = [
    editor === undefined ? "-" : String(concepts),
    ...measures.map((measure) => rate(scores[measure])),
    Number.isNaN(harmonicMean) ? "-" : harmonicMean.toFixed(3),
    editor === undefined ? "-" : unrelatedChange.toFixed(2),
    editor === undefined ? "-" : leakage.toFixed(4),
    editor === undefined ? "-" : solveMs.toFixed(0),
  ];
  return [(editor ?? "before").padEnd(width), ...cells.map((cell, i) => cell.padEnd(head[i].length))].join("  ")
    .trimEnd();
}

function rate({ pictures, rate }: Tally): string {
  return pictures === 0 ? "-" : `${(100 * rate).toFixed(0)} %`;
}

/** A figure in which editors differ. */
interface Figure {
  readonly name: string;
  /** The figure of a result; undefined where there are no pictures. */
  readonly of: (result: EditorResult) => number | undefined;
  /** Whether more is better. */
  readonly isGain: boolean;
  readonly text: (result: EditorResult) => string;
}

const figures: readonly Figure[] = [
  ...measures.map((measure): Figure => ({
    name: measure,
    of: ({ scores: { [measure]: { pictures, rate } } }) => pictures === 0 ? undefined : rate,
    isGain: true,
    text: ({ scores: { [measure]: tally } }) => {
      const { low, high } = bounds(tally);
      return `${rate(tally)} [${(100 * low).toFixed(0)}, ${(100 * high).toFixed(0)}]`;
    },
  })),
  { name: "change", of: ({ unrelatedChange: x }) => x, isGain: false, text: ({ unrelatedChange: x }) => x.toFixed(2) },
  { name: "leakage", of: ({ leakage }) => leakage, isGain: false, text: ({ leakage }) => leakage.toFixed(4) },
];

/**
 * Where editors lose: for each number of concepts and each figure in which they differ, the worst
 * and the best editor. Rates come with Wilson's 95 % intervals; where those overlap, the pictures
 * are too few to tell.
 */
export function comparisonLosses(results: readonly EditorResult[]): string[] {
  const edited = results.filter(({ editor }) => editor !== undefined);
  return [...Map.groupBy(edited, ({ concepts }) => concepts)].flatMap(([concepts, rivals]) =>
    figures.flatMap((figure) => {
      const ranked = rivals.filter((each) => !Number.isNaN(figure.of(each) ?? NaN))
        .toSorted((a, b) => (figure.of(a)! - figure.of(b)!) * (figure.isGain ? 1 : -1));
      const worst = ranked.at(0), best = ranked.at(-1);
      if (worst === undefined || best === undefined || figure.of(worst) === figure.of(best)) return [];
      const where = `${countText(concepts, "concept")}, ${figure.name}`;
      return [
        `${where}: worst ${figure.text(worst)} (${worst.editor}), best ${figure.text(best)} (${best.editor})${
          overlaps(figure.name, worst, best) ? "; the intervals overlap" : ""
        }`,
      ];
    })
  );
}

function overlaps(name: string, worst: EditorResult, best: EditorResult): boolean {
  const measure = measures.find((each) => each === name);
  return measure !== undefined && bounds(worst.scores[measure]).high >= bounds(best.scores[measure]).low;
}

function bounds({ rate, pictures }: Tally) {
  return wilsonInterval(Math.round(rate * pictures), pictures);
}
