/** Text as HTML's content and attribute values hold it. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}

/** A table that scrolls by keyboard where it is wider than the page. Cells are HTML. */
export function htmlTable(caption: string, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const header = head.map((cell) => `<th scope="col">${cell}</th>`).join("");
  const body = rows.map(([first, ...cells]) =>
    `<tr><th scope="row">${first}</th>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`
  );
  return `<div class="wide" role="region" aria-label="${caption}" tabindex="0"><table><caption>${caption}</caption>
<thead><tr>${header}</tr></thead>
<tbody>
${body.join("\n")}
</tbody></table></div>`;
}

/** The style of a report: readable on screens of both kinds of contrast, and on paper. */
export const reportStyle = `
:root { color-scheme: light dark; --line: #8886; --accent: #2458c5; }
@media (prefers-color-scheme: dark) { :root { --accent: #8fb4ff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th[scope=row], thead th:first-child { text-align: left; white-space: normal; min-width: 10rem; }
svg { max-width: 100%; height: auto; } svg text { fill: currentColor; font: 13px system-ui, sans-serif; }
.grid { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
figure { margin: 0; } figure img { width: 100%; height: auto; display: block; } figcaption { font-size: .85rem; }
.note { border-left: 4px solid var(--accent); padding-left: .75rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } nav, .skip { display: none; }
  .wide { overflow: visible; } th, td { padding: .15rem .4rem; white-space: normal; }
  tr, figure, svg { break-inside: avoid; } h2, h3 { break-after: avoid; }
}`;
