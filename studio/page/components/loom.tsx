/** Which token becomes which: two rows of chips, joined by threads. @module */

import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { AlignmentView, TokenChip } from "../../painter.ts";

interface Thread {
  readonly path: string;
  readonly kind: string;
}

/** The aligned tokens of a pair. */
export function Loom({ alignment, off }: { alignment: AlignmentView; off: boolean }): JSX.Element {
  const root = useRef<HTMLDivElement>(null);
  const [threads, setThreads] = useState<readonly Thread[]>([]);
  const [scrolls, setScrolls] = useState(false);
  const links = alignment.ok ? alignment.links : equalChips(alignment.source, alignment.destination);

  useLayoutEffect(() => {
    const element = root.current!;
    const measure = () => {
      const [from, to] = [...element.querySelectorAll("ol")].map((list) => [...list.children]);
      const { left, top } = element.getBoundingClientRect();
      const place = (chip: Element) => {
        const box = chip.getBoundingClientRect();
        const middle = box.left + box.width / 2 - left + element.scrollLeft;
        return { middle, top: box.top - top, bottom: box.bottom - top };
      };
      setThreads(links.map(([a, b]) => {
        const [p, q] = [place(from[a]), place(to[b])];
        const half = (p.bottom + q.top) / 2;
        // The last hundredth: a straight thread has an empty box, which a gradient cannot fill.
        const path = `M${p.middle} ${p.bottom}C${p.middle} ${half} ${q.middle} ${half} ${q.middle + 0.01} ${q.top}`;
        const chip = alignment.source[a];
        return { path, kind: chip.moved ? "main" : a === alignment.source.length - 1 ? "end" : "" };
      }));
      setScrolls(element.scrollWidth > element.clientWidth + 1);
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    document.fonts?.ready.then(measure);
    return () => observer.disconnect();
  }, [alignment]);

  const lost = alignment.ok ? undefined : alignment.lost;
  return (
    // A long prompt scrolls; then the keyboard must reach it.
    <div
      ref={root}
      class={`loom ${off ? "off" : ""}`}
      role="group"
      aria-label="Aligned tokens"
      tabIndex={scrolls ? 0 : undefined}
    >
      <svg aria-hidden="true">{threads.map(({ path, kind }, i) => <path key={i} class={kind} d={path} />)}</svg>
      <Chips label="Source tokens" chips={alignment.source} lost={lost} />
      <Chips label="Destination tokens" chips={alignment.destination} />
    </div>
  );
}

function Chips({ label, chips, lost }: { label: string; chips: readonly TokenChip[]; lost?: number }): JSX.Element {
  return (
    <ol aria-label={label}>
      {chips.map(({ text, moved, added }, i) => {
        const kinds = [i === chips.length - 1 && "end", moved && "moved", added && "new", i === lost && "lost"];
        return <li key={i} class={["chip", ...kinds].filter(Boolean).join(" ")}>{text}</li>;
      })}
    </ol>
  );
}

/** Links of equal chips in order, for pairs that cannot be aligned. */
function equalChips(from: readonly TokenChip[], to: readonly TokenChip[]): [number, number][] {
  const links: [number, number][] = [];
  let next = 0;
  from.forEach(({ text }, i) => {
    const found = to.findIndex((chip, j) => j >= next && chip.text === text);
    if (found < 0) return;
    links.push([i, found]);
    next = found + 1;
  });
  return links;
}
