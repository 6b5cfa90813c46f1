/** The page's icons, drawn with lines of the text's color. @module */

import type { JSX } from "preact";

const shapes = {
  arrow: <path d="M2 9h13m-5-5 5 5-5 5" />,
  undo: <path d="M6.5 3.5 3 7l3.5 3.5M3.5 7h7a4 4 0 0 1 0 8H8" />,
  redo: <path d="M11.5 3.5 15 7l-3.5 3.5M14.5 7h-7a4 4 0 0 0 0 8H10" />,
  link: (
    <path d="M7.5 10.5a3 3 0 0 0 4.3 0l2.6-2.6a3 3 0 0 0-4.3-4.3l-.9.9M10.5 7.5a3 3 0 0 0-4.3 0l-2.6 2.6a3 3 0 0 0 4.3 4.3l.9-.9" />
  ),
  save: <path d="M9 3v8.5M5.5 8.5 9 12l3.5-3.5M3.5 15h11" />,
  theme: (
    <>
      <circle cx="9" cy="9" r="6" />
      <path d="M9 3a6 6 0 0 1 0 12z" fill="currentColor" />
    </>
  ),
  plus: <path d="M9 4v10M4 9h10" />,
  more: <path d="M4 9h.01M9 9h.01M14 9h.01" stroke-width="2.4" />,
  lock: (
    <>
      <rect x="4" y="8" width="10" height="7" rx="1.5" />
      <path d="M6 8V6a3 3 0 0 1 6 0v2" />
    </>
  ),
  unlock: (
    <>
      <rect x="4" y="8" width="10" height="7" rx="1.5" />
      <path d="M6 8V6a3 3 0 0 1 5.6-1.5" />
    </>
  ),
  divider: (
    <>
      <rect x="2.5" y="3.5" width="13" height="11" rx="1" />
      <path d="M9 1.5v15" />
    </>
  ),
  side: (
    <>
      <rect x="2" y="5" width="6" height="8" rx="1" />
      <rect x="10" y="5" width="6" height="8" rx="1" />
    </>
  ),
  flicker: (
    <>
      <rect x="2.5" y="2.5" width="9" height="9" rx="1" />
      <path d="M14 6.5h.5a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1h-7a1 1 0 0 1-1-1V14" />
    </>
  ),
  difference: (
    <>
      <circle cx="7" cy="9" r="4.5" />
      <circle cx="11" cy="9" r="4.5" />
    </>
  ),
  grid: (
    <>
      <rect x="3" y="3" width="5" height="5" rx=".7" />
      <rect x="10" y="3" width="5" height="5" rx=".7" />
      <rect x="3" y="10" width="5" height="5" rx=".7" />
      <rect x="10" y="10" width="5" height="5" rx=".7" />
    </>
  ),
  alert: <path d="M9 2.5 16 15H2zM9 7v3.5M9 12.8v.01" />,
  info: (
    <>
      <circle cx="9" cy="9" r="6.5" />
      <path d="M9 8.3v4.2M9 5.7v.01" />
    </>
  ),
  drop: <path d="M9 2.5v8M6 7.5l3 3 3-3M2.5 11v3a1.5 1.5 0 0 0 1.5 1.5h10a1.5 1.5 0 0 0 1.5-1.5v-3" />,
  sliders: (
    <>
      <path d="M3 5.5h6m4 0h2M3 12.5h2m4 0h6" />
      <circle cx="11" cy="5.5" r="1.8" />
      <circle cx="7" cy="12.5" r="1.8" />
    </>
  ),
  up: <path d="m5 11 4-4 4 4" />,
  down: <path d="m5 7 4 4 4-4" />,
  x: <path d="m5 5 8 8m0-8-8 8" />,
} satisfies Record<string, JSX.Element>;

/** The name of an icon. */
export type IconName = keyof typeof shapes;

/** An icon; it says nothing to a screen reader. */
export function Icon({ name }: { name: IconName }): JSX.Element {
  return <svg class="icon" viewBox="0 0 18 18" aria-hidden="true">{shapes[name]}</svg>;
}

/** The rose of the page's head. */
export function Rose(): JSX.Element {
  return (
    <svg viewBox="0 0 26 26" aria-hidden="true">
      <g fill="var(--blue-fill)">
        <circle cx="13" cy="7.6" r="5.2" />
        <circle cx="18.2" cy="11.4" r="5.2" />
        <circle cx="16.2" cy="17.4" r="5.2" />
        <circle cx="9.8" cy="17.4" r="5.2" />
        <circle cx="7.8" cy="11.4" r="5.2" />
      </g>
      <path
        d="M13 9.4a3.9 3.9 0 1 1-3.7 5.1c-.5-1.6.7-3 2.2-3 1.3 0 2.2 1 2.2 2.1"
        fill="none"
        stroke="var(--surface)"
        stroke-width="1.5"
        stroke-linecap="round"
      />
    </svg>
  );
}
