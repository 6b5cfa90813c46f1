/** The stack of edits: the open one with its fields and tokens, the others a line each. @module */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { AlignmentView, PairSpec } from "../../painter.ts";
import * as actions from "../actions.ts";
import { maxPrompt } from "../recipe_schema.ts";
import { isComplete, methodOf, tokensOf } from "../../edit_methods.ts";
import { type EditItem, emptyEdit, hasDraft, lambdaText, pairKey, percent } from "../state.ts";
import { suggestDestination } from "../suggest.ts";
import { narrow, useStudio } from "./context.ts";
import { MethodChoice, MethodSettings } from "./method.tsx";
import { Icon } from "./icons.tsx";
import { Loom } from "./loom.tsx";
import { Menu } from "./menu.tsx";
import { Response } from "./response.tsx";
import { Switch } from "./switch.tsx";

const examples: readonly { readonly label: string; readonly pair: PairSpec }[] = [
  { label: "roses are blue", pair: { source: "A pack of roses", destination: "A pack of blue roses" } },
  { label: "cats are white", pair: { source: "A cat", destination: "A white cat" } },
  { label: "bananas are blue", pair: { source: "A banana", destination: "A blue banana" } },
];

/** Until a failed alignment is explained, so that a half-typed word is none. */
const patienceMs = 600;

/** The panel of edits, with the response of the open one. */
export function Edits(): JSX.Element {
  const { edits, open } = useStudio().store.state.value;
  return (
    <section class="panel" aria-label="Edits">
      <div class="stack">
        <OpenEdit edit={edits[open]} index={open} />
        {edits.map((edit, i) => i === open ? null : <EditRow key={edit.id} edit={edit} index={i} />)}
      </div>
      <Response />
    </section>
  );
}

function OpenEdit({ edit, index }: { edit: EditItem; index: number }): JSX.Element {
  const { store, controller } = useStudio();
  const { pair: shownPair, alignments, model, editFailure, edits } = store.state.value;
  const pair = edit.draft[shownPair] ?? edit.draft[0];
  const tokens = tokensOf(edit.spec);
  const key = pairKey(pair, tokens);
  const written = isComplete(pair, edit.spec);
  const current = alignments[key];
  const last = useRef<AlignmentView>();
  if (current !== undefined) last.current = current;
  const [told, tell] = useState("");
  const failed = current?.ok === false && written;
  useEffect(() => {
    if (!failed) return;
    const timer = setTimeout(() => tell(key), patienceMs);
    return () => clearTimeout(timer);
  }, [failed, key]);

  const submit = async (event: Event) => {
    event.preventDefault();
    if (!await controller.apply()) tell(key);
  };
  const empty = edit.draft.every(({ source, destination }) => source === "" && destination === "");
  const problem = failed && told === key;
  const drafted = hasDraft(edit);
  return (
    <div class="edit">
      <EditHead edit={edit} index={index} />
      <form class="pairs" onSubmit={submit}>
        {edit.draft.map((pair, i) => (
          <PairFields
            key={i}
            pair={pair}
            index={i}
            invalid={problem && i === shownPair}
            ready={drafted}
            erases={tokens === "last"}
          />
        ))}
      </form>
      <MethodSettings edit={edit} index={index} />
      <OtherPreserved edit={edit} />
      {empty
        ? (
          <div class="examples">
            Start from
            {examples.map(({ label, pair }) => (
              <button
                key={label}
                class="btn line"
                type="button"
                onClick={() => {
                  store.dispatch(actions.typePair, 0, pair);
                  void controller.apply();
                }}
              >
                {label}
              </button>
            ))}
          </div>
        )
        : (
          <div class="weave">
            {last.current && written
              ? <Loom alignment={last.current} off={!edit.spec.enabled} />
              : <div class="loom empty" />}
            {problem
              ? <AlignmentNote pair={pair} alignment={current} />
              : editFailure !== undefined
              ? (
                <div class="note" role="alert" id="edit-error">
                  <Icon name="alert" />
                  <strong>The edit cannot be solved</strong>
                  <span>{editFailure}</span>
                </div>
              )
              : !narrow.value && <KeepButtons disabled={model.status !== "open" || failed || edits.length === 0} />}
          </div>
        )}
    </div>
  );
}

/** Preserved prompts without a card, as an edit from a file may have them. */
function OtherPreserved({ edit }: { edit: EditItem }): JSX.Element | null {
  const { store } = useStudio();
  const { prompts } = store.state.value;
  const others = edit.spec.preserve.filter((text) => !prompts.some((prompt) => prompt.text === text));
  if (others.length === 0) return null;
  return (
    <div class="preserved" role="group" aria-label="Other preserved prompts">
      Also preserves
      {others.map((text) => (
        <button
          key={text}
          class="btn line"
          type="button"
          aria-label={`No longer preserve ${text}`}
          onClick={() => store.dispatch(actions.togglePreserve, text)}
        >
          {text}
          <Icon name="x" />
        </button>
      ))}
    </div>
  );
}

function KeepButtons({ disabled }: { disabled: boolean }): JSX.Element {
  const { desk } = useStudio();
  return (
    <div class="keep">
      <button class="btn" type="button" disabled={disabled} onClick={() => desk.saveEdit()}>Save edit</button>
      <button class="btn" type="button" disabled={disabled} onClick={() => desk.saveLora()}>Save LoRA</button>
    </div>
  );
}

function EditHead({ edit, index }: { edit: EditItem; index: number }): JSX.Element {
  const { store, desk } = useStudio();
  const { edits, model } = store.state.value;
  const { enabled, withToK, withPooled = false } = edit.spec;
  const name = `Edit ${index + 1}`;
  const set = (change: Parameters<typeof actions.setEdit>[2]) => store.dispatch(actions.setEdit, index, change);
  return (
    <div class="edit-head">
      <Switch checked={enabled} label={`${name} on`} onChange={() => set({ enabled: !enabled })} />
      <h2>{name}</h2>
      <MethodChoice edit={edit} index={index} />
      {!narrow.value && <KeysSwitch withToK={withToK} set={(withToK) => set({ withToK })} />}
      <span class="spring" />
      <button
        class="btn square"
        type="button"
        aria-label="Add edit"
        title="Add edit"
        onClick={() => store.dispatch(actions.addEdit, emptyEdit)}
      >
        <Icon name="plus" />
      </button>
      <Menu label={`More about edit ${index + 1}`} icon="more">
        <button class="btn" type="button" onClick={() => store.dispatch(actions.addPair)}>Add a pair</button>
        <button
          class="btn"
          type="button"
          disabled={index === 0}
          onClick={() => store.dispatch(actions.moveEdit, index, -1)}
        >
          Move up
        </button>
        <button
          class="btn"
          type="button"
          disabled={index === edits.length - 1}
          onClick={() => store.dispatch(actions.moveEdit, index, 1)}
        >
          Move down
        </button>
        <button class="btn" type="button" onClick={() => store.dispatch(actions.removeEdit, index)}>Remove edit</button>
        {((model.status === "open" && model.facts.isXL) || withPooled) && (
          <>
            <hr />
            <label>
              <Switch checked={withPooled} onChange={() => set({ withPooled: withPooled ? undefined : true })} />
              Pooled embedding too
            </label>
          </>
        )}
        {narrow.value && (
          <>
            <hr />
            <label>
              <Switch checked={!withToK} onChange={() => set({ withToK: !withToK })} />
              Values only
            </label>
            <hr />
            <button
              class="btn"
              type="button"
              disabled={store.state.value.past.length === 0}
              onClick={() => store.dispatch(actions.undo)}
            >
              Undo
            </button>
            <button
              class="btn"
              type="button"
              disabled={store.state.value.future.length === 0}
              onClick={() => store.dispatch(actions.redo)}
            >
              Redo
            </button>
            <hr />
            <button class="btn" type="button" disabled={model.status !== "open"} onClick={() => desk.saveEdit()}>
              Save edit
            </button>
            <button class="btn" type="button" disabled={model.status !== "open"} onClick={() => desk.saveLora()}>
              Save LoRA
            </button>
          </>
        )}
      </Menu>
    </div>
  );
}

function KeysSwitch({ withToK, set }: { withToK: boolean; set: (withToK: boolean) => void }): JSX.Element {
  return (
    <fieldset class="seg">
      <legend class="sr">What the edit changes</legend>
      <label>
        <input type="radio" name="keys" checked={withToK} onChange={() => set(true)} />Keys and values
      </label>
      <label>
        <input type="radio" name="keys" checked={!withToK} onChange={() => set(false)} />Values only
      </label>
    </fieldset>
  );
}

function PairFields({ pair, index, invalid, ready, erases }: {
  pair: PairSpec;
  index: number;
  invalid: boolean;
  ready: boolean;
  /** Whether an empty destination erases the source. */
  erases: boolean;
}): JSX.Element {
  const { store, controller } = useStudio();
  const field = (side: keyof PairSpec, label: string, placeholder: string) => (
    <label class={`field ${side === "source" ? "src" : "dst"}`}>
      <span>{index === 0 ? `${label} prompt` : `${label}, pair ${index + 1}`}</span>
      <input
        type="text"
        value={pair[side]}
        placeholder={placeholder}
        maxLength={maxPrompt}
        autocomplete="off"
        spellcheck={false}
        aria-invalid={invalid || undefined}
        aria-describedby={invalid ? "align-error" : undefined}
        onInput={(event) =>
          store.dispatch(actions.typePair, index, { [side]: event.currentTarget.value })}
        onFocus={() => store.dispatch(actions.openPair, index)}
        onBlur={() => store.dispatch(actions.endGesture)}
        onKeyDown={(event) => {
          // Forms with several fields submit on Enter only through their button.
          if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && !event.isComposing) {
            event.preventDefault();
            event.currentTarget.form?.requestSubmit();
          }
        }}
      />
    </label>
  );
  return (
    <div class="pair">
      {field("source", "Source", "what you would ask for")}
      <Icon name="arrow" />
      {field("destination", "Destination", erases ? "empty: erase it" : "what that should mean")}
      {index === 0 ? <button class={`btn line ${ready ? "ready" : ""}`} type="submit">Apply edit</button> : (
        <button
          class="btn square"
          type="button"
          aria-label={`Remove pair ${index + 1}`}
          onClick={() => {
            store.dispatch(actions.removePair, index);
            void controller.apply();
          }}
        >
          <Icon name="x" />
        </button>
      )}
    </div>
  );
}

function AlignmentNote({ pair, alignment }: { pair: PairSpec; alignment: AlignmentView }): JSX.Element {
  const { store, controller } = useStudio();
  const lost = alignment.ok || alignment.lost === undefined ? undefined : alignment.source[alignment.lost]?.text;
  const suggestion = suggestDestination(pair.source, pair.destination);
  return (
    <div class="note" role="alert" id="align-error">
      <Icon name="alert" />
      <strong>{lost === undefined ? "The words do not match up" : `“${lost}” has no partner`}</strong>
      <span>Keep all words of the source, in their order, and add to them.</span>
      {suggestion !== undefined && (
        <span class="acts">
          <button
            class="btn line"
            type="button"
            onClick={() => {
              store.dispatch(actions.typePair, store.now.pair, { destination: suggestion });
              void controller.apply();
            }}
          >
            Use “{suggestion}”
          </button>
        </span>
      )}
    </div>
  );
}

function EditRow({ edit, index }: { edit: EditItem; index: number }): JSX.Element {
  const { store } = useStudio();
  const { enabled, lambda, strength, method } = edit.spec;
  const [{ source, destination }] = edit.draft;
  const name = `edit ${index + 1}`;
  return (
    <div class={`row-edit ${enabled ? "" : "off"}`}>
      <Switch
        checked={enabled}
        label={`Edit ${index + 1} on`}
        onChange={() => store.dispatch(actions.setEdit, index, { enabled: !enabled })}
      />
      <button
        class="words"
        type="button"
        aria-label={`Open ${name}: ${source} becomes ${destination}`}
        onClick={() => store.dispatch(actions.openEdit, index)}
      >
        {source || "…"} <Icon name="arrow" /> {destination || "…"}
        {edit.draft.length > 1 && <small>and {edit.draft.length - 1} more</small>}
      </button>
      <small class="hide-s">
        {enabled
          ? `${method === undefined ? "" : `${methodOf(edit.spec).label}, `}λ ${lambdaText(lambda)}, strength ${
            percent(strength)
          }`
          : "off"}
      </small>
      <span class="spring" />
      <button
        class="btn square hide-s"
        type="button"
        aria-label={`Move ${name} up`}
        disabled={index === 0}
        onClick={() => store.dispatch(actions.moveEdit, index, -1)}
      >
        <Icon name="up" />
      </button>
      <button
        class="btn square"
        type="button"
        aria-label={`Remove ${name}`}
        onClick={() => store.dispatch(actions.removeEdit, index)}
      >
        <Icon name="x" />
      </button>
    </div>
  );
}
