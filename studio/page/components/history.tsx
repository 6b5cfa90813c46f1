/** Every drawing of this visit and of earlier ones. @module */

import type { JSX } from "preact";
import * as actions from "../actions.ts";
import { summaryOf } from "../stage.ts";
import { type HistoryEntry, recipeOf } from "../state.ts";
import { useStudio } from "./context.ts";
import { Picture } from "./picture.tsx";

/** One line of drawings. Looking at one changes nothing. */
export function History(): JSX.Element {
  const { store } = useStudio();
  const state = store.state.value;
  const { history, cleared, looking } = state;
  const recipe = JSON.stringify(recipeOf(state));
  const current = looking ?? history.find((entry) => JSON.stringify(entry.recipe) === recipe)?.id;
  return (
    <section class="history" aria-label="History">
      <header>
        <h2>History</h2>
        {history.length > 0 && (
          <button class="btn" type="button" onClick={() => store.dispatch(actions.clearHistory)}>Clear</button>
        )}
      </header>
      {cleared.length > 0
        ? (
          <p>
            Cleared {cleared.length} drawing{cleared.length === 1 ? "" : "s"}.{" "}
            <button class="btn line" type="button" onClick={() => store.dispatch(actions.restoreHistory)}>
              Bring back
            </button>
          </p>
        )
        : history.length === 0
        ? <p>Drawings are kept here, in this browser.</p>
        : (
          <ol>
            {history.map((entry) => (
              <li key={entry.id}>
                <Shot entry={entry} current={entry.id === current} />
              </li>
            ))}
          </ol>
        )}
    </section>
  );
}

function Shot({ entry, current }: { entry: HistoryEntry; current: boolean }): JSX.Element {
  const { store } = useStudio();
  const { title, details } = summaryOf(entry.recipe);
  const pair = entry.pictures.find(({ before, after }) => before && after) ??
    entry.pictures.find(({ before }) => before);
  const look = () => store.dispatch(actions.look, store.now.looking === entry.id ? undefined : entry.id);
  return (
    <button class="shot" type="button" aria-current={current || undefined} onClick={look}>
      <span class="duo">
        {pair?.before && <Picture pixels={pair.before.pixels} />}
        {pair?.after && <Picture class="after" pixels={pair.after.pixels} />}
      </span>
      <span>
        {title}
        <small>{details}</small>
      </span>
    </button>
  );
}
