/**
 * The plot of efficacy against specificity.
 *
 * @module
 */
import type { SettingSummary } from "../merge.ts";
import { percent } from "../tables.ts";
import { escapeHtml } from "./html.ts";
import { boxAround, type PlacedLabel, placeLabels } from "./labels.ts";

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

/** Settings that differ in λ only, with the look of their points. */
interface Series {
  readonly name: string;
  /** Its color; see {@linkcode seriesColors}. */
  readonly color: string;
  readonly points: readonly Point[];
  /** Half the side of its marks. Marks of later series lie within those of earlier ones. */
  readonly radius: number;
  readonly mark: (x: number, y: number, radius: number) => string;
  readonly dashes: string;
}

/** Number of colors in the report's style. */
export const seriesColors = 6;

/** Outlines of marks, as paths. */
const marks: readonly Series["mark"][] = [
  (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  (x, y, r) => `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}Z`,
  (x, y, r) => `M${x} ${y - r}L${x + r} ${y + r}H${x - r}Z`,
  (x, y, r) => `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`,
  (x, y, r) => `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`,
];

const dashes = ["", "7 4", "2 4"];

/** In units of the drawing. Labels of points at 100 % stand on the right. */
const size = { width: 680, height: 420, left: 64, right: 120, top: 20, bottom: 56 };

const x = (rate: number) => round(size.left + rate * (size.width - size.left - size.right));
const y = (rate: number) => round(size.height - size.bottom - rate * (size.height - size.top - size.bottom));

/**
 * Efficacy against specificity: one curve over λ for each editor with its other options, points for
 * settings without λ. Bars are Wilson's intervals, labels are λ.
 *
 * @returns HTML; an empty text where no setting has both rates
 */
export function efficacyCurve(settings: readonly SettingSummary[]): string {
  const all = seriesOf(settings);
  if (all.length === 0) return "";
  const labels = placeLabels(all.flatMap(labelsOf), {
    within: { left: size.left + 4, right: size.width, top: 0, bottom: y(0) - 4 },
    obstacles: all.flatMap(({ points, radius }) => points.map((point) => boxAround(at(point), radius + 2))),
  });
  return `<figure class="plot">
<div class="wide" role="region" aria-label="Plot of efficacy against specificity" tabindex="0">
<svg viewBox="0 0 ${size.width} ${size.height}" width="${size.width}" height="${size.height}" role="img" aria-labelledby="curve-title">
<title id="curve-title">Efficacy against specificity in percent; the table above has the same values</title>
${axes()}
${all.map(curveOf).join("\n")}
${labels.map(labelText).join("\n")}
</svg></div>
<ul class="legend">${all.map(legendItem).join("")}</ul>
<figcaption>Numbers beside the points are λ. Bars: Wilson's 95 % intervals. Points with equal rates lie within each other.
A point without room for its number has it in the table.</figcaption>
</figure>`;
}

function seriesOf(settings: readonly SettingSummary[]): Series[] {
  const named = [...Map.groupBy(settings, ({ setting }) => seriesName(setting))].map(([name, members]) => ({
    name,
    points: members.flatMap(pointOf).sort((a, b) => (a.lamb ?? 0) - (b.lamb ?? 0)),
  })).filter(({ points }) => points.length > 0);
  return named.map((series, i) => ({
    ...series,
    color: `c${i % seriesColors}`,
    radius: 4 + Math.min(2.5, 12 / named.length) * (named.length - 1 - i),
    mark: marks[i % marks.length],
    dashes: dashes[Math.floor(i / seriesColors) % dashes.length],
  }));
}

/** The settings of one curve differ in λ only. */
function seriesName({ name, editor }: SettingSummary["setting"]): string {
  return editor === undefined ? name : name.replace(`, lambda ${editor.lamb}`, " over λ");
}

function pointOf({ setting: { name, editor }, measures }: SettingSummary): Point[] {
  const [efficacy, specificity] = ["efficacy", "specificity"].map((name) =>
    measures.find(({ measure }) => measure === name)!
  );
  if (efficacy.pictures === 0 || specificity.pictures === 0) return [];
  return [{ name, lamb: editor?.lamb, efficacy, specificity }];
}

function axes(): string {
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((rate) =>
    `<path d="M${x(rate)} ${y(0)}V${y(1)}M${x(0)} ${y(rate)}H${x(1)}" stroke="#8885" fill="none"/>` +
    `<text x="${x(rate)}" y="${y(0) + 26}" text-anchor="middle">${100 * rate}</text>` +
    `<text x="${x(0) - 8}" y="${y(rate) + 4}" text-anchor="end">${100 * rate}</text>`
  );
  return `${ticks.join("\n")}
<text x="${x(0.5)}" y="${size.height - 4}" text-anchor="middle">specificity in percent</text>
<text transform="translate(16 ${y(0.5)}) rotate(-90)" text-anchor="middle">efficacy in percent</text>`;
}

function curveOf({ points, color, radius, mark, dashes }: Series): string {
  const path = points.map((point) => Object.values(at(point)).join(" ")).join("L");
  const shown = points.map((point) => {
    const { name, specificity: s, efficacy: e } = point;
    const bars = `M${x(s.interval.low)} ${y(e.rate)}H${x(s.interval.high)}M${x(s.rate)} ${y(e.interval.low)}V${
      y(e.interval.high)
    }`;
    const title = `${name}: efficacy ${percent(e.rate)} %, specificity ${percent(s.rate)} %`;
    return `<path d="${bars}" stroke-opacity=".35"/><path class="mark" d="${
      mark(x(s.rate), y(e.rate), round(radius))
    }" stroke-width="2"><title>${escapeHtml(title)}</title></path>`;
  });
  return `<g class="${color}" stroke="currentColor" fill="none"><path d="M${path}" stroke-width="1.5"${
    dashes === "" ? "" : ` stroke-dasharray="${dashes}"`
  }/>${shown.join("")}</g>`;
}

function at({ specificity, efficacy }: Point): { x: number; y: number } {
  return { x: x(specificity.rate), y: y(efficacy.rate) };
}

/** The labels of a series: λ of each place, of which several settings may have the same. */
function labelsOf({ points, color, radius }: Series) {
  const places = Map.groupBy(points, ({ specificity, efficacy }) => `${specificity.rate} ${efficacy.rate}`);
  return [...places.values()].flatMap((members) => {
    const text = members.flatMap(({ lamb }) => lamb ?? []).join(", ");
    return text === "" ? [] : [{ text, color, radius, ...at(members[0]) }];
  });
}

function labelText({ text, color, box, x, y, leader }: PlacedLabel & { readonly color: string }): string {
  const line = leader === undefined
    ? ""
    : `<path d="M${x} ${y}L${round(leader.x)} ${round(leader.y)}" stroke="currentColor" stroke-opacity=".5"/>`;
  return `<g class="${color}">${line}<text x="${round(box.left)}" y="${round(box.bottom - 4)}">${text}</text></g>`;
}

function legendItem({ name, color, mark, dashes }: Series): string {
  const dashed = dashes === "" ? "" : ` stroke-dasharray="${dashes}"`;
  return `<li><svg class="${color}" width="28" height="14" viewBox="0 0 28 14" aria-hidden="true"><path d="M0 7H28"${dashed} stroke="currentColor"/><path d="${
    mark(14, 7, 5)
  }" stroke="currentColor" stroke-width="2" fill="none"/></svg> ${escapeHtml(name)}</li>`;
}

function round(value: number): number {
  return Math.round(10 * value) / 10;
}
