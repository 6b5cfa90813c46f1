import type { SettingSummary } from "../merge.ts";
import { percent } from "../tables.ts";
import { escapeHtml } from "./html.ts";

/** A setting as a point of the plane, with the intervals of both rates. */
interface Point {
  readonly name: string;
  readonly lamb?: number;
  readonly specificity: Rate;
  readonly efficacy: Rate;
}

interface Rate {
  readonly rate: number;
  readonly interval: { readonly low: number; readonly high: number };
}

const colors = ["#2458c5", "#c2410c", "#15803d", "#9333ea", "#b91c1c", "#0e7490"];
const size = { width: 680, height: 420, left: 64, right: 190, top: 16, bottom: 52 };

/**
 * Efficacy against specificity: one curve over λ for each editor with its other options, points for
 * settings without λ. Bars are Wilson's intervals.
 *
 * @returns SVG; an empty text where no setting has both rates
 */
export function efficacyCurve(settings: readonly SettingSummary[]): string {
  const series = [...Map.groupBy(settings, ({ setting }) => seriesOf(setting))].map(([name, members]) => ({
    name,
    points: members.flatMap(pointOf).sort((a, b) => (a.lamb ?? 0) - (b.lamb ?? 0)),
  })).filter(({ points }) => points.length > 0);
  if (series.length === 0) return "";
  const { width, height, left, right, top, bottom } = size;
  const x = (rate: number) => round(left + rate * (width - left - right));
  const y = (rate: number) => round(height - bottom - rate * (height - top - bottom));
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((rate) =>
    `<path d="M${x(rate)} ${y(0)}V${y(1)}M${x(0)} ${y(rate)}H${x(1)}" stroke="#8885" fill="none"/>` +
    `<text x="${x(rate)}" y="${y(0) + 18}" text-anchor="middle">${100 * rate}</text>` +
    `<text x="${x(0) - 8}" y="${y(rate) + 4}" text-anchor="end">${100 * rate}</text>`
  );
  const curves = series.map(({ name, points }, i) => {
    const color = colors[i % colors.length];
    const path = points.map(({ specificity, efficacy }) => `${x(specificity.rate)} ${y(efficacy.rate)}`).join("L");
    // Points of later series lie on those of earlier ones, which stay visible around them.
    const radius = 5 + 2 * (series.length - 1 - i);
    const marks = points.map(({ name, specificity: s, efficacy: e }) =>
      `<path d="M${x(s.interval.low)} ${y(e.rate)}H${x(s.interval.high)}M${x(s.rate)} ${y(e.interval.low)}V${
        y(e.interval.high)
      }" stroke="${color}" stroke-opacity=".4" fill="none"/>` +
      `<circle cx="${x(s.rate)}" cy="${y(e.rate)}" r="${radius}" fill="${color}"><title>${escapeHtml(name)}: efficacy ${
        percent(e.rate)
      } %, specificity ${percent(s.rate)} %</title></circle>`
    );
    // Settings with equal rates share a label.
    const places = Map.groupBy(points, ({ specificity, efficacy }) => `${specificity.rate} ${efficacy.rate}`);
    const labels = [...places.values()].flatMap((members) => {
      const [{ specificity, efficacy }] = members;
      const values = members.flatMap(({ lamb }) => lamb ?? []).join(", ");
      if (values === "") return [];
      return [`<text x="${x(specificity.rate) - 8}" y="${y(efficacy.rate) + 20}" text-anchor="end">${values}</text>`];
    });
    const legend = `<rect x="${width - right + 16}" y="${top + i * 22}" width="12" height="12" fill="${color}"/>` +
      `<text x="${width - right + 34}" y="${top + i * 22 + 11}">${escapeHtml(name)}</text>`;
    return `<path d="M${path}" stroke="${color}" stroke-width="2" fill="none"/>${marks.join("")}${
      labels.join("")
    }${legend}`;
  });
  return `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="curve-title">
<title id="curve-title">Efficacy against specificity in percent; the table above has the same values</title>
${ticks.join("\n")}
<text x="${x(0.5)}" y="${height - 10}" text-anchor="middle">specificity in percent</text>
<text transform="translate(16 ${y(0.5)}) rotate(-90)" text-anchor="middle">efficacy in percent</text>
${curves.join("\n")}
</svg>`;
}

/** The settings of one curve differ in λ only. */
function seriesOf({ name, editor }: SettingSummary["setting"]): string {
  return editor === undefined ? name : name.replace(`, lambda ${editor.lamb}`, " over λ");
}

function pointOf({ setting: { name, editor }, measures }: SettingSummary): Point[] {
  const [efficacy, specificity] = ["efficacy", "specificity"].map((name) =>
    measures.find(({ measure }) => measure === name)!
  );
  if (efficacy.pictures === 0 || specificity.pictures === 0) return [];
  return [{ name, lamb: editor?.lamb, efficacy, specificity }];
}

function round(value: number): number {
  return Math.round(10 * value) / 10;
}
