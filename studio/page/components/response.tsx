/** How far prompts move over λ: curves, λ as the needle, strength at the axis. @module */

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import * as actions from "../actions.ts";
import { monotoneCurve } from "../curve.ts";
import { type Card, cardsOf, isStale, type Reading, readingOf } from "../stage.ts";
import { type Curves, lambdaText, percent, type State } from "../state.ts";
import { medium, useStudio } from "./context.ts";

/** log₁₀ λ at the ends of the axis. */
const [low, high] = [-4, 3];

/** Strength at the top of the axis. */
const top = 1.25;

/** Where the curves are sampled, in log₁₀ λ. */
const samples = Array.from({ length: 71 }, (_, i) => low + i / 10);

const ticks: readonly { readonly at: number; readonly text: string; readonly few?: boolean }[] = [
  { at: 0, text: "loose" },
  { at: 1 / 7, text: "0.001", few: true },
  { at: 2 / 7, text: "0.01" },
  { at: 3 / 7, text: "0.1" },
  { at: 4 / 7, text: "1" },
  { at: 5 / 7, text: "10" },
  { at: 6 / 7, text: "100", few: true },
  { at: 1, text: "firm" },
];

const nullSpaceTicks = [{ at: 0, text: "0" }, ...ticks.slice(1, -1), { at: 1, text: "1000" }];

/** log₁₀ λ within the axis; 0 is at its lower end. */
function logOf(lambda: number): number {
  return Math.max(low, Math.min(high, Math.log10(lambda)));
}

/** The response of the open edit, with its two sliders. */
export function Response(): JSX.Element {
  const { store } = useStudio();
  const state = store.state.value;
  const { lambda, strength, method } = state.edits[state.open].spec;
  const at = logOf(lambda);
  // In a null space, λ is the freedom of what must not move: 0 is none.
  const isNullSpace = method === "nullspace";
  // Those of another edit would mislead; those of this one stay until new ones are there.
  const curves = state.curves?.edit === state.edits[state.open].id ? state.curves : undefined;
  const cards = cardsOf({ ...state, looking: undefined });
  const reading = readingOf(cards);
  const set = (change: { lambda?: number; strength?: number }, gesture: string) =>
    store.dispatch(actions.setEdit, state.open, change, gesture);
  const settle = () => store.dispatch(actions.endGesture);
  const setLog = (log: number) =>
    set({ lambda: isNullSpace && log <= low ? 0 : Number((10 ** log).toPrecision(3)) }, "lambda");
  const setShare = (share: number) => set({ strength: Math.round(share * 100) / 100 }, "strength");
  const text = lambdaText(lambda);
  const left = (log: number) => `${(log - low) / (high - low) * 100}%`;
  const drawn = drawnLambda(state);
  return (
    <div class="response" role="group" aria-label="How far prompts move">
      <div class="reading">
        <div>
          <label for="lambda">
            <span class="lam" aria-hidden="true">λ</span>
            <span class="sr">Lambda</span>
          </label>
          <b class="v lambda-out" aria-hidden="true">{text}</b>
        </div>
        <div>
          <label for="strength">Strength</label>
          <b class="v" aria-hidden="true">{percent(strength)}</b>
        </div>
        <Sentence reading={reading} />
      </div>
      <div class="plot">
        <Plot curves={curves} cards={cards} strength={strength} />
        {drawn !== undefined && <span class="was" style={{ left: left(logOf(drawn)) }} />}
        <Dot at={left(at)} value={reading.related?.least} />
        <Dot at={left(at)} value={reading.unrelated} kind="st" />
        <div class="ticks" aria-hidden="true">
          {(isNullSpace ? nullSpaceTicks : ticks).map(({ at, text, few }) => (
            <i key={text} class={few ? "few" : ""} style={{ left: `${at * 100}%` }}>{text}</i>
          ))}
        </div>
        <input
          class="needle"
          id="lambda"
          type="range"
          min={low}
          max={high}
          step={0.02}
          value={at}
          aria-label="Lambda"
          aria-valuetext={text}
          onInput={(event) => setLog(event.currentTarget.valueAsNumber)}
          onChange={settle}
          onBlur={settle}
          onKeyDown={(event) => byPage(event, (pages) => setLog(Math.max(low, Math.min(high, at + pages))))}
        />
      </div>
      <div class="rail" style={{ "--fill": `${Math.min(1, Math.max(0, strength / top)) * 100}%` }}>
        <span class="track" />
        <i style={{ bottom: 0 }} aria-hidden="true">0</i>
        <i style={{ bottom: "40%" }} aria-hidden="true">50</i>
        <i style={{ bottom: "80%" }} aria-hidden="true">100 %</i>
        <input
          class="lever"
          id="strength"
          type="range"
          min={0}
          max={top}
          step={0.01}
          value={strength}
          aria-label="Strength"
          aria-orientation="vertical"
          aria-valuetext={percent(strength)}
          onInput={(event) => setShare(event.currentTarget.valueAsNumber)}
          onChange={settle}
          onBlur={settle}
          onKeyDown={(event) => byPage(event, (pages) => setShare(Math.max(0, Math.min(top, strength + pages / 10))))}
        />
      </div>
    </div>
  );
}

/** Page Up and Page Down move by a decade of λ, or 10 % of strength. */
function byPage(event: KeyboardEvent, move: (pages: number) => void): void {
  if (event.key !== "PageUp" && event.key !== "PageDown") return;
  event.preventDefault();
  move(event.key === "PageUp" ? 1 : -1);
}

/** λ of the pictures on show, if the edit has another by now. */
function drawnLambda(state: State): number | undefined {
  if (!isStale(state)) return undefined;
  const after = Object.values(state.pictures).find(({ after }) => after !== undefined)?.after;
  const { lambda, pairs } = state.edits[state.open].spec;
  const drawn = after?.request.edits.find((edit) => JSON.stringify(edit.pairs) === JSON.stringify(pairs));
  return drawn !== undefined && Math.abs(logOf(drawn.lambda) - logOf(lambda)) > 0.01 ? drawn.lambda : undefined;
}

function Sentence({ reading: { related, unrelated } }: { reading: Reading }): JSX.Element {
  const short = medium.value;
  const warn = (unrelated ?? 0) > 0.5;
  const range = related === undefined
    ? undefined
    : percent(related.least) === percent(related.most)
    ? percent(related.most)
    : `${Math.round(related.least * 100)}–${percent(related.most)}`;
  return (
    <p>
      {range !== undefined && (
        <>
          {!short && "Related move "}
          <b>{range}</b>
        </>
      )}
      {range !== undefined && unrelated !== undefined && (short ? " against " : ", unrelated at most ")}
      {range === undefined && unrelated !== undefined && "Unrelated move at most "}
      {unrelated !== undefined && <b class={warn ? "warn" : "calm"}>{percent(unrelated)}</b>}
    </p>
  );
}

function Dot({ at, value, kind = "" }: { at: string; value?: number; kind?: string }): JSX.Element | null {
  if (value === undefined) return null;
  return <span class={`dot ${kind}`} style={{ left: at, top: `${100 - value / top * 100}%` }} />;
}

function Plot({ curves, cards, strength }: { curves?: Curves; cards: readonly Card[]; strength: number }): JSX.Element {
  const shown = useMemo(() => curves && curvesOf(curves, cards), [
    curves,
    cards.map(({ text, group }) => group + text).join("\n"),
  ]);
  const x = (log: number) => (log - low) / (high - low) * 100;
  const y = (value: number) => 100 - value * strength / top * 100;
  // The labels stand by their curves, and apart from each other.
  const hasBoth = shown?.some(({ moves }) => moves) && shown.some(({ moves }) => !moves);
  const movingTop = shown && Math.max(4, y(levelOf(shown, true)) - 8);
  const stayingTop = shown && Math.min(93, y(levelOf(shown, false)) - 6);
  const isClose = hasBoth && Math.abs(stayingTop! - movingTop!) < labelHeight;
  const path = (values: readonly number[]) =>
    `M${samples.map((log, i) => `${x(log).toFixed(2)},${y(values[i]).toFixed(2)}`).join("L")}`;
  return (
    <>
      <svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">
        {shown && <path class="gap" d={gapPath(shown, x, y)} />}
        <path class="grid" d="M0 100H100M0 20H100" />
        {shown?.map(({ id, moves, values }) => <path key={id} class={`curve ${moves ? "mv" : ""}`} d={path(values)} />)}
      </svg>
      {shown?.some(({ moves }) => moves) && (
        <span class="say mv" style={{ left: "62%", top: `${movingTop}%` }}>
          source, related
        </span>
      )}
      {shown?.some(({ moves }) => !moves) && (
        <span class="say st" style={{ left: "62%", top: `${isClose ? movingTop! + labelHeight : stayingTop}%` }}>
          unrelated
        </span>
      )}
    </>
  );
}

/** Of a curve's label, in percent of the plot's height. */
const labelHeight = 10;

interface ShownCurve {
  readonly id: number;
  readonly moves: boolean;
  /** At {@linkcode samples}. */
  readonly values: readonly number[];
}

function curvesOf({ lambdas, changes }: Curves, cards: readonly Card[]): ShownCurve[] {
  return cards.flatMap(({ id, text, group }) => {
    const points = lambdas.map((lambda, i) => [Math.log10(lambda), changes[text]?.[i] ?? NaN])
      .filter(([, value]) => Number.isFinite(value));
    if (points.length < 2) return [];
    const curve = monotoneCurve(points.map(([x]) => x), points.map(([, y]) => y));
    return [{ id, moves: group !== "unrelated", values: samples.map(curve) }];
  }).sort((a, b) => Number(a.moves) - Number(b.moves));
}

/** Height of the labels: the highest curve of a kind, where the labels stand. */
function levelOf(curves: readonly ShownCurve[], moves: boolean): number {
  const from = Math.floor(samples.length * 0.62);
  return Math.max(...curves.filter((curve) => curve.moves === moves).map(({ values }) => values[from]));
}

/** The room between what moves and what stays, where there is any. */
function gapPath(curves: readonly ShownCurve[], x: (log: number) => number, y: (value: number) => number): string {
  const values = (moves: boolean, i: number) => curves.filter((c) => c.moves === moves).map(({ values }) => values[i]);
  if (!curves.some(({ moves }) => moves)) return "";
  const rows = samples.map((log, i) => ({
    log,
    high: Math.min(...values(true, i)),
    low: Math.max(0, ...values(false, i)),
  })).filter(({ high, low }) => high > low);
  if (rows.length === 0) return "";
  const line = rows.map(({ log, high }) => `${x(log)},${y(high)}`);
  const back = rows.toReversed().map(({ log, low }) => `${x(log)},${y(low)}`);
  return `M${[...line, ...back].join("L")}Z`;
}
