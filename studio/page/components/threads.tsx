/** Threads from the added word to each prompt, as thick as the prompt will move. @module */

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { cardsOf } from "../stage.ts";
import { hasActiveEdit } from "../actions.ts";
import { narrow, useStudio } from "./context.ts";

interface Place {
  readonly id: number;
  readonly d: string;
  readonly x: number;
  readonly y: number;
}

interface Layout {
  readonly top: number;
  readonly height: number;
  readonly places: readonly Place[];
}

/** Threads in lanes that never cross. They go to the first row of prompts only. */
export function Threads(): JSX.Element | null {
  const { store } = useStudio();
  const state = store.state.value;
  const svg = useRef<SVGSVGElement>(null);
  const [layout, setLayout] = useState<Layout>();
  const [runs, setRuns] = useState(false);
  const cards = cardsOf(state);
  const hidden = narrow.value || !hasActiveEdit(state);
  const shape = cards.map(({ id, group }) => `${id} ${group}`).join(";");

  useLayoutEffect(() => {
    if (hidden) return;
    const main = svg.current!.parentElement!;
    const measure = () =>
      setLayout((old) => {
        const next = measured(main);
        return JSON.stringify(next) === JSON.stringify(old) ? old : next;
      });
    measure();
    const observer = new ResizeObserver(measure);
    for (const element of main.querySelectorAll(".panel, .loom, .stage, .card")) observer.observe(element);
    return () => observer.disconnect();
  }, [hidden, shape, state.alignments, state.open, state.pair, state.edits]);

  const applied = JSON.stringify(state.edits.map(({ spec }) => [spec.pairs, spec.enabled]));
  useEffect(() => {
    setRuns(true);
    const timer = setTimeout(() => setRuns(false), 750);
    return () => clearTimeout(timer);
  }, [applied]);

  if (hidden) return null;
  return (
    <svg
      ref={svg}
      class={`threads ${runs ? "run" : ""}`}
      aria-hidden="true"
      style={{ top: `${layout?.top ?? 0}px`, height: `${layout?.height ?? 1}px` }}
    >
      {layout?.places.map(({ id, d, x, y }) => {
        const card = cards.find((card) => card.id === id);
        if (card === undefined) return null;
        const change = Math.min(1, card.change ?? 0);
        const kind = card.warn ? "warn" : card.group === "unrelated" ? "st" : "";
        return (
          <g key={id}>
            <path pathLength={1} class={kind} style={{ strokeWidth: (1 + change * 3.5).toFixed(2) }} d={d} />
            <circle class={kind} cx={x} cy={y} r={(2.5 + change * 2).toFixed(1)} />
          </g>
        );
      })}
    </svg>
  );
}

const radius = 12;

function measured(main: Element): Layout | undefined {
  const chips = [...main.querySelectorAll(".loom .chip.new")];
  const chip = chips[Math.floor((chips.length - 1) / 2)];
  const loom = main.querySelector(".loom");
  if (chip === undefined || loom === null) return undefined;
  const from = chip.getBoundingClientRect();
  const window = loom.getBoundingClientRect();
  const origin = main.getBoundingClientRect();
  const top = from.bottom - 2;
  // A chip that is scrolled out of sight sends its threads from the edge.
  const middle = Math.max(window.left + 14, Math.min(window.right - 14, from.left + from.width / 2)) - origin.left;
  const panel = main.querySelector(".panel")!.getBoundingClientRect().bottom - top;
  const ends = [...main.querySelectorAll<HTMLElement>(".card")].map((card) => {
    const box = card.getBoundingClientRect();
    const kind = card.closest(".group")!.querySelector(".kind")!.getBoundingClientRect();
    return {
      id: Number(card.dataset.id),
      x: box.left + box.width / 2 - origin.left,
      y: kind.bottom - top,
      first: box.top - kind.bottom < 40,
    };
  });
  const firstRow = Math.min(...ends.map(({ y }) => y));
  const shown = ends.filter(({ y, first }) => first && y < firstRow + 4).sort((a, b) => a.x - b.x);
  if (shown.length === 0) return undefined;
  const step = Math.min(7, (from.width - 22) / shown.length);
  const rights = shown.filter(({ x }) => x >= middle);
  const lefts = shown.filter(({ x }) => x < middle);
  const places = shown.map((end, i): Place => {
    const start = middle + (i - (shown.length - 1) / 2) * step;
    const side = end.x >= start ? 1 : -1;
    const lane = Math.max(0, side > 0 ? rights.length - 1 - rights.indexOf(end) : lefts.indexOf(end));
    const lanes = Math.max(rights.length, lefts.length);
    const y = panel + 12 + lane * Math.min(7, 30 / lanes);
    const r = Math.min(radius, Math.abs(end.x - start) / 2);
    const d = `M${start} 0V${y - r}Q${start} ${y} ${start + side * r} ${y}H${end.x - side * r}` +
      `Q${end.x} ${y} ${end.x} ${y + r}V${end.y}`;
    return { id: end.id, d, x: end.x, y: end.y };
  });
  return { top: top - origin.top, height: Math.max(1, firstRow + 6), places };
}
