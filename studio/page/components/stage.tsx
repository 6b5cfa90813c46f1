/** Prompts in their groups, each with its meter and its pictures. @module */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import * as actions from "../actions.ts";
import { maxPrompt } from "../recipe_schema.ts";
import { type Card, cardsOf, isStale } from "../stage.ts";
import { type Group, groups, percent } from "../state.ts";
import { useStudio } from "./context.ts";
import { Icon } from "./icons.tsx";
import { Menu } from "./menu.tsx";
import { PictureView } from "./picture.tsx";

const names: Record<Group, string> = { source: "Source", related: "Related", unrelated: "Unrelated" };

const leftOutNote = "Not kept: it contains the words of a source, which a null-space edit changes everywhere";

/** Columns of a group before it wraps. */
const maxColumns = 4;

/** All cards, by group. */
export function Stage(): JSX.Element {
  const { store } = useStudio();
  const state = store.state.value;
  const cards = cardsOf(state);
  const stale = isStale(state) && state.looking === undefined;
  const first = groups.flatMap((group) => cards.filter((card) => card.group === group))[0];
  return (
    <div class={["stage", stale && "stale", state.model.status === "opening" && "loading"].filter(Boolean).join(" ")}>
      {groups.map((group) => {
        const own = cards.filter((card) =>
          card.group === group
        );
        if (own.length === 0) return null;
        return (
          <section
            key={group}
            class="group"
            style={{ "--n": Math.min(maxColumns, own.length) }}
            aria-label={names[group]}
          >
            <h2 class="kind">
              <span>{names[group]}</span>
            </h2>
            <div class="cards">{own.map((card) => <CardView key={card.id} card={card} first={card === first} />)}</div>
          </section>
        );
      })}
    </div>
  );
}

/** What stands under the stage. */
export function UnderStage(): JSX.Element {
  const { store } = useStudio();
  const { view } = store.state.value;
  const add = () => {
    store.dispatch(actions.addPrompt, "related");
    const { prompts } = store.now;
    // The field exists after the next paint.
    requestAnimationFrame(() => document.querySelector<HTMLElement>(`[data-id="${prompts.at(-1)!.id}"] .say`)?.focus());
  };
  return (
    <div class="under">
      <button class="btn" type="button" onClick={add}>
        <Icon name="plus" />Add prompt
      </button>
      <p>
        {view === "divider"
          ? "One divider moves all. Hold Alt to move one."
          : view === "flicker"
          ? "Press a picture to hold it at before."
          : view === "difference"
          ? "Black is where nothing changed."
          : ""}
      </p>
    </div>
  );
}

function CardView({ card, first }: { card: Card; first: boolean }): JSX.Element {
  const { store } = useStudio();
  const { id, number, text, group, change, warn } = card;
  const looking = id < 0;
  const shown = change === undefined ? undefined : Math.min(1, Math.max(0, change));
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (field.current && document.activeElement !== field.current) field.current.scrollLeft = 0;
  });
  return (
    <article
      class={`card ${warn ? "warn" : ""}`}
      data-id={id}
      data-group={group}
      aria-label={text || "A new prompt"}
      onFocusCapture={() => !looking && store.dispatch(actions.focusPrompt, id)}
    >
      <div class="head">
        <input
          ref={field}
          class="say"
          type="text"
          value={text}
          title={text}
          readOnly={looking}
          maxLength={maxPrompt}
          placeholder="a new prompt"
          aria-label={`Prompt ${number}`}
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => store.dispatch(actions.setPrompt, id, event.currentTarget.value)}
        />
        {!looking && <CardMenu card={card} />}
      </div>
      <div class="level">
        <div
          class="meter"
          role="meter"
          aria-label={`Predicted change of ${text}`}
          aria-valuemin={0}
          aria-valuemax={1}
          aria-valuenow={Number((shown ?? 0).toFixed(3))}
          aria-valuetext={shown === undefined ? "not known yet" : percent(shown)}
          style={{ "--v": shown ?? 0, "--drawn": Math.min(1, card.drawnChange ?? 0) }}
        >
          <b />
          {card.drawnChange !== undefined && <i />}
        </div>
        <b class="v" aria-hidden="true">{shown === undefined ? "" : percent(shown)}</b>
      </div>
      <PictureView card={card} first={first} />
      {!looking && group !== "source" && text.trim() !== "" && (
        <button
          class={`pin ${card.leftOut ? "left-out" : ""}`}
          type="button"
          aria-pressed={card.preserved}
          aria-label={`Preserve ${text}`}
          aria-description={card.leftOut ? leftOutNote : undefined}
          title={card.leftOut ? leftOutNote : "Preserve: keep this prompt as it is"}
          onClick={() => store.dispatch(actions.togglePreserve, text)}
        >
          <Icon name={card.leftOut ? "unlock" : "lock"} />
        </button>
      )}
    </article>
  );
}

function CardMenu({ card: { id, number, group } }: { card: Card }): JSX.Element {
  const { store } = useStudio();
  return (
    <Menu label={`More about prompt ${number}`} icon="more" class="card-menu">
      {groups.map((other) => (
        <label key={other}>
          <input
            type="radio"
            name={`group-${id}`}
            checked={group === other}
            onChange={() => store.dispatch(actions.setGroup, id, other)}
          />
          {names[other]}
        </label>
      ))}
      <hr />
      <button class="btn" type="button" onClick={() => store.dispatch(actions.removePrompt, id)}>
        <Icon name="x" />Remove prompt
      </button>
    </Menu>
  );
}
