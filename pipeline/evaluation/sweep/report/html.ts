/** Text as HTML's content and attribute values hold it. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}

/**
 * A table that scrolls by keyboard where it is wider than the page. Caption, label and cells are
 * HTML.
 *
 * @param label names the table among others. Default: the caption.
 */
export function htmlTable(
  caption: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
  label: string = caption,
): string {
  const header = head.map((cell) => `<th scope="col">${cell}</th>`).join("");
  const body = rows.map(([first, ...cells]) =>
    `<tr><th scope="row">${first}</th>${cells.map(tableCell).join("")}</tr>`
  );
  return `<div class="wide" role="region" aria-label="${label}" tabindex="0"><table><caption>${caption}</caption>
<thead><tr>${header}</tr></thead>
<tbody>
${body.join("\n")}
</tbody></table></div>`;
}

/** A cell, unless it is one already: numbers stand on the right. */
function tableCell(cell: string): string {
  return cell.startsWith("<td") ? cell : `<td>${cell}</td>`;
}

/** A cell of text, which may have several lines. */
export function textCell(text: string): string {
  return `<td class="text">${escapeHtml(text)}</td>`;
}

/** Colors of series on a light and on a dark ground; each has a contrast of 4.5 or more. */
const lightColors = ["#1d4ed8", "#b3390a", "#15803d", "#7e22ce", "#b91c1c", "#0e7490"];
const darkColors = ["#93b4ff", "#fdba74", "#86efac", "#d8b4fe", "#fca5a5", "#67e8f9"];

/** Declares the colors as `--c0`, `--c1`, …. */
function declared(colors: readonly string[]): string {
  return colors.map((color, i) => `--c${i}: ${color};`).join(" ");
}

/** The style of a report: readable on screens of both kinds of contrast, and on paper. */
export const reportStyle: string = `
:root { color-scheme: light dark; --line: #8886; --accent: #2458c5; ${declared(lightColors)} }
@media (prefers-color-scheme: dark) { :root { --accent: #8fb4ff; ${declared(darkColors)} } }
@media print { :root { color-scheme: light; --accent: #2458c5; ${declared(lightColors)} } }
${lightColors.map((_, i) => `.c${i} { color: var(--c${i}); }`).join(" ")}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
nav ul, .legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
td { white-space: nowrap; } td.text { white-space: normal; overflow-wrap: anywhere; text-align: left; }
th[scope=row], thead th:first-child { text-align: left; min-width: 7rem; }
th[scope=row] { position: sticky; left: 0; background: Canvas; }
@media (max-width: 40rem) { body { padding: .5rem 1rem 3rem; } th, td { padding: .3rem .4rem; } .grid { --side: 6rem; } }
.interval { display: block; font-size: .8rem; opacity: .85; }
summary { cursor: pointer; font-weight: 600; padding: .35rem 0; } details { border-bottom: 1px solid var(--line); }
.plot svg { max-width: 100%; height: auto; min-width: 34rem; } .plot .legend svg { min-width: 0; }
svg text { fill: currentColor; font: 13px system-ui, sans-serif; }
svg text { paint-order: stroke; stroke: Canvas; stroke-width: 4px; stroke-linejoin: round; }
.grid { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(var(--side, 8rem), 1fr)); }
figure { margin: 0; } figure img { width: 100%; height: auto; display: block; } figcaption { font-size: .85rem; }
.note { border-left: 4px solid var(--accent); padding-left: .75rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } nav, .skip { display: none; }
  .wide { overflow: visible; } th, td { padding: .15rem .35rem; } .plot svg { min-width: 0; max-width: 16cm; }
  th[scope=row], thead th:first-child { min-width: 0; }
  details::details-content { content-visibility: visible; display: block; block-size: auto; }
  .grid { grid-template-columns: repeat(auto-fill, minmax(2.6cm, 1fr)); }
  tr, figure, svg { break-inside: avoid; } h2, h3, h4, summary, caption { break-after: avoid; }
}`;
