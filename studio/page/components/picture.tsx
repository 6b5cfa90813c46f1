/** The pictures of one prompt, before and after, in the chosen view. @module */

import type { JSX } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Pixels } from "../../painter.ts";
import * as actions from "../actions.ts";
import { paint } from "../paint.ts";
import type { Card, Pending } from "../stage.ts";
import type { View } from "../state.ts";
import { useStudio } from "./context.ts";

/** A picture on a canvas. Without a label it says nothing to a screen reader. */
export function Picture({ pixels, label, class: style = "" }: {
  pixels: Pixels;
  label?: string;
  class?: string;
}): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  // Painted with the layout: nobody sees, or measures, an empty canvas.
  useLayoutEffect(() => {
    const draw = () => paint(canvas.current!, pixels);
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(canvas.current!);
    return () => observer.disconnect();
  }, [pixels]);
  return label === undefined
    ? <canvas ref={canvas} class={style} aria-hidden="true" />
    : <canvas ref={canvas} class={style} role="img" aria-label={label} />;
}

/** Before and after of a card. */
export function PictureView({ card, first }: { card: Card; first: boolean }): JSX.Element {
  const { store } = useStudio();
  const state = store.state.value;
  const { view } = state;
  const at = state.dividers[card.id] ?? state.divider;
  const wasAlt = useRef(false);
  const root = useRef<HTMLDivElement>(null);
  useSweep(root, card, at);
  const { text } = card;
  const before = (
    <Half side="before" label={`${text}, before`} pixels={card.before?.pixels} pending={card.pendingBefore} />
  );
  const after = <Half side="after" label={`${text}, after`} pixels={card.after?.pixels} pending={card.pendingAfter} />;
  if (view === "side") {
    return (
      <div class="view-side">
        <div class="pair-view">{before}</div>
        <div class="pair-view">{after}</div>
      </div>
    );
  }
  return (
    <div
      ref={root}
      class={["pair-view", `view-${view}`, busyClass(view, card)].filter(Boolean).join(" ")}
      style={{ "--x": view === "divider" ? `${at}%` : "0%", "--aspect": aspectOf(card) }}
      onPointerDown={(event) => view === "flicker" && event.currentTarget.classList.add("held")}
      onPointerUp={(event) => event.currentTarget.classList.remove("held")}
      onPointerLeave={(event) => event.currentTarget.classList.remove("held")}
    >
      {before}
      {after}
      {view === "divider" && (
        <>
          {first && (
            <>
              <span class="tag b" aria-hidden="true">before</span>
              <span class="tag a" aria-hidden="true">after</span>
            </>
          )}
          <span class="edge" />
          <input
            type="range"
            min={0}
            max={100}
            value={at}
            aria-label={`Divider of ${text}`}
            aria-valuetext={`${Math.round(100 - at)} % after`}
            onPointerDown={(event) => wasAlt.current = event.altKey}
            onKeyDown={(event) => wasAlt.current = event.altKey}
            onInput={(event) => {
              const value = event.currentTarget.valueAsNumber;
              store.dispatch(actions.setDivider, value, wasAlt.current ? card.id : undefined);
            }}
          />
        </>
      )}
    </div>
  );
}

/** A finished picture sweeps in once: its divider moves from the right to its place. */
function useSweep(root: { readonly current: HTMLElement | null }, { id, after, pendingAfter }: Card, at: number): void {
  const was = useRef({ id, drawing: false, key: after?.key });
  useLayoutEffect(() => {
    const { id: oldId, drawing, key } = was.current;
    const finished = oldId === id && drawing && pendingAfter === undefined && after?.key !== key;
    was.current = { id, drawing: pendingAfter?.status === "drawing", key: pendingAfter ? key : after?.key };
    if (!finished || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    root.current?.animate({ "--x": ["100%", `${at}%`] }, { duration: 1100, easing: "cubic-bezier(0.65, 0, 0.2, 1)" });
  }, [id, after, pendingAfter?.status]);
}

function busyClass(view: View, { pendingAfter }: Card): string | undefined {
  return view === "divider" && pendingAfter !== undefined ? pendingAfter.status : undefined;
}

function aspectOf({ before, after }: Card): string {
  const { width, height } = (before ?? after)?.pixels ?? { width: 1, height: 1 };
  return `${width} / ${height}`;
}

/** One side: its picture, or its preview while it is drawn, and how far that is. */
function Half({ side, label, pixels, pending }: {
  side: "before" | "after";
  label: string;
  pixels?: Pixels;
  pending?: Pending;
}): JSX.Element {
  const preview = pending?.status === "drawing" ? pending.running.preview : undefined;
  return (
    <>
      {pixels && <Picture class={side} pixels={pixels} label={label} />}
      {preview && <Picture class={`${side} preview`} pixels={preview} />}
      {pending?.status === "waiting" && (
        <>
          <span class={`veil ${side}`} />
          <span class={`step ${side}`}>waiting</span>
        </>
      )}
      {pending?.status === "drawing" && (
        <span class={`step ${side}`} style={{ "--p": pending.running.step / pending.running.steps }}>
          step {pending.running.step} of {pending.running.steps}
        </span>
      )}
    </>
  );
}
