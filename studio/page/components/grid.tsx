/** One prompt over two settings, on one sheet. @module */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Pixels } from "../../painter.ts";
import * as actions from "../actions.ts";
import { download } from "../desk.ts";
import { type Grid, type GridAxes, gridOf } from "../grid.ts";
import { drawSheet } from "../sheet.ts";
import { isWritten } from "../../edit_methods.ts";
import { recipeOf } from "../state.ts";
import { dialog, useStudio } from "./context.ts";
import { Sheet } from "./dialogs.tsx";
import { Icon } from "./icons.tsx";
import { Picture } from "./picture.tsx";

const axesNames: readonly { readonly axes: GridAxes; readonly label: string }[] = [
  { axes: "lambda", label: "λ × strength" },
  { axes: "seeds", label: "Seeds" },
  { axes: "samplers", label: "Samplers" },
];

/** Draws a grid from the middle row by row, until all is there or the visitor stops. */
export function GridSheet(): JSX.Element {
  const { store, controller } = useStudio();
  const state = store.state.value;
  const prompts = state.prompts.filter(({ text }) => text.trim() !== "");
  const [id, setId] = useState(state.focused ?? prompts[1]?.id ?? prompts[0]?.id);
  const prompt = prompts.find((prompt) => prompt.id === id) ?? prompts[0];
  const [axes, setAxes] = useState<GridAxes>("lambda");
  const [grid, setGrid] = useState<Grid>();
  const [cells, setCells] = useState<ReadonlyMap<string, Pixels>>(new Map());
  const [drawing, setDrawing] = useState(false);
  const running = useRef<AbortController>();
  useEffect(() => () => running.current?.abort(), []);

  const stop = () => {
    running.current?.abort();
    setDrawing(false);
  };
  const draw = async () => {
    const own = new AbortController();
    running.current = own;
    const now = store.now;
    const recipe = recipeOf(now);
    const open = now.edits.filter(({ spec }) => isWritten(spec)).indexOf(now.edits[now.open]);
    const samplers = now.model.status === "open" ? now.model.facts.samplers : [];
    const next = gridOf(axes, { prompt: prompt.text, recipe, open, samplers });
    setGrid(next);
    setCells(new Map());
    setDrawing(true);
    try {
      for (const { label, request } of next.cells.flat()) {
        const { pixels } = await controller.drawInTurn(request, undefined, own.signal);
        if (own.signal.aborted) return;
        setCells((cells) => new Map([...cells, [label, pixels]]));
      }
    } catch (error) {
      if (own.signal.aborted) return;
      controller.report("The grid cannot be drawn", error);
    }
    setDrawing(false);
  };
  const save = async () => {
    if (grid === undefined) return;
    const png = await drawSheet({
      title: `${prompt.text}: ${grid.rowTitle.toLowerCase()} over ${grid.columnTitle}`,
      columns: grid.columns.map((text) => `${grid.columnTitle} ${text}`),
      rows: grid.rows,
      cells: grid.cells.map((row) => row.map(({ label }) => cells.get(label))),
    });
    download({ name: "blue-rose-grid.png", type: "image/png", bytes: new Uint8Array(await png.arrayBuffer()) });
  };
  const count = grid?.cells.flat().length ?? 0;
  const close = () => {
    if (drawing) stop();
    dialog.value = undefined;
  };
  return (
    <Sheet title="Grid" class="wide" onClose={close}>
      <div class="sheet-head">
        <label class="num wide">
          <span>Prompt</span>
          <select
            aria-label="Prompt of the grid"
            value={String(prompt?.id)}
            onChange={(event) => setId(Number(event.currentTarget.value))}
          >
            {prompts.map(({ id, text }) => (
              <option key={id} value={String(id)} selected={id === prompt?.id}>{text}</option>
            ))}
          </select>
        </label>
        <fieldset class="seg" disabled={drawing}>
          <legend class="sr">Axes of the grid</legend>
          {axesNames.map(({ axes: other, label }) => (
            <label key={other}>
              <input type="radio" name="axes" checked={axes === other} onChange={() => setAxes(other)} />
              {label}
            </label>
          ))}
        </fieldset>
        <span class="spring" />
        {count > 0 && <span class="count">{cells.size} of {count}</span>}
        <button class="btn line" type="button" disabled={prompt === undefined} onClick={drawing ? stop : draw}>
          {drawing ? "Stop grid" : "Draw grid"}
        </button>
        <button class="btn line" type="button" disabled={cells.size === 0} onClick={save}>
          <Icon name="save" />Save grid
        </button>
      </div>
      {grid === undefined
        ? <p class="hint">One prompt over two settings. A press on a picture uses its settings.</p>
        : (
          <GridTable
            grid={grid}
            cells={cells}
            drawing={drawing}
            title={prompt.text}
            use={(recipe) => {
              store.dispatch(actions.useRecipe, recipe);
              close();
            }}
          />
        )}
    </Sheet>
  );
}

function GridTable({ grid, cells, drawing, title, use }: {
  grid: Grid;
  cells: ReadonlyMap<string, Pixels>;
  drawing: boolean;
  title: string;
  use: (recipe: Grid["cells"][number][number]["recipe"]) => void;
}): JSX.Element {
  return (
    <div class="sheet-wrap" tabIndex={0} role="group" aria-label={`Grid of ${title}`}>
      <div class="sheet" style={{ "--columns": grid.columns.length }}>
        {grid.rows.map((row, y) => (
          <>
            <span class="y">{row}</span>
            {grid.cells[y].map(({ label, recipe }) => {
              const pixels = cells.get(label);
              return pixels === undefined
                ? <div key={label} class={drawing ? "skeleton" : "skeleton still"} />
                : (
                  <button key={label} type="button" aria-label={`Use ${label}`} onClick={() => use(recipe)}>
                    <Picture pixels={pixels} />
                  </button>
                );
            })}
          </>
        ))}
        <span />
        {grid.columns.map((text) => <span key={text} class="x">{text}</span>)}
        <span />
        <span class="axis">{grid.columnTitle}</span>
      </div>
    </div>
  );
}
