/**
 * Parts of pages: escaped texts, and tables that fit every width.
 *
 * @module
 */

/** Markup that is not escaped again. */
export interface Markup {
  readonly html: string;
}

/** A column of a table. */
export interface Column {
  readonly title: string;
  /** Text is aligned left and may wrap; numbers are aligned right. Default: false. */
  readonly isText?: boolean;
}

/** A text with the characters escaped that mean something in HTML. */
export function escape(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (character) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[character]!,
  );
}

/**
 * A table. On narrow screens each row becomes a block: its first cell is the title, and every other
 * cell follows its column's title. Empty cells are left out there.
 */
export function table(columns: readonly Column[], rows: readonly (readonly (string | Markup)[])[]): string {
  const kind = ({ isText = false }: Column) => isText ? ' class="text"' : "";
  const cell = (content: string | Markup, column: Column) => {
    const html = typeof content === "string" ? escape(content) : content.html;
    return `<td${kind(column)} data-title="${escape(column.title)}">${html}</td>`;
  };
  return `<table>
<thead><tr>${columns.map((column) => `<th${kind(column)}>${escape(column.title)}</th>`).join("")}</tr></thead>
<tbody>
${rows.map((row) => `<tr>${row.map((content, i) => cell(content, columns[i])).join("")}</tr>`).join("\n")}
</tbody>
</table>`;
}

/** The style of a page of tables. */
export const pageStyle = `
:root { color-scheme: light dark; --ink: light-dark(#222, #ddd); --faint: #8886; --paper: light-dark(#fff, #16181d); }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1240px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h1, h2, p, li, td { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.85rem; }
svg { display: block; width: 100%; max-width: 960px; height: auto; } svg text { font-size: 12px; fill: var(--ink); }
circle { r: 5px; }
.grid { stroke: var(--faint); stroke-width: 0.5; } .roof { stroke: var(--ink); stroke-width: 2; fill: none; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; list-style: none; padding: 0; }
.legend span { display: inline-block; width: 0.75em; height: 0.75em; border-radius: 50%; margin-right: 0.4em; }
.note { color: light-dark(#666, #999); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.15rem 0.45rem; text-align: right; vertical-align: top; border-bottom: 0.5px solid var(--faint); }
th { font-weight: 600; vertical-align: bottom; } td:not(.text) { white-space: nowrap; } td br + .note { white-space: normal; overflow-wrap: break-word; } .text { text-align: left; min-width: 8.5em; }
meter { width: 4em; }
.slower, .missed { color: light-dark(#b3261e, #ff8a80); } .faster, .met { color: light-dark(#1b6e3c, #7fd99b); }
@media (max-width: 900px) {
  svg text { font-size: 20px; } circle { r: 9px; }
  thead { display: none; }
  table, tbody { display: block; }
  tr { display: flex; flex-wrap: wrap; gap: 0 1rem; padding: 0.4rem 0; border-bottom: 0.5px solid var(--faint); }
  td, td:not(.text) { border: 0; padding: 0; text-align: left; white-space: normal; }
  td:first-child { flex-basis: 100%; font-weight: 600; } .text { min-width: 0; }
  td:empty { display: none; }
  td:not(:first-child)::before { content: attr(data-title) ": "; color: light-dark(#666, #999); }
}
`;
