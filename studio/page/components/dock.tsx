/** Draw, the status, the dials, and how pictures are shown. @module */

import type { JSX } from "preact";
import * as actions from "../actions.ts";
import { maxSteps } from "../recipe_schema.ts";
import { statusOf } from "../stage.ts";
import { recipeOf, type State, views } from "../state.ts";
import { dialog, medium, narrow, useStudio } from "./context.ts";
import { GuidanceDial, SamplerDial, SeedDial, SizeDial, StepsDial } from "./dials.tsx";
import { Icon, type IconName } from "./icons.tsx";

/** The bar at the foot of the page. */
export function Dock(): JSX.Element {
  const { store, controller, desk } = useStudio();
  const state = store.state.value;
  const { model, jobs, looking } = state;
  const busy = jobs.length > 0;
  const { strong, small } = statusOf(state, Date.now());
  // On a phone, what is offered takes the place of the settings and the views.
  const offer = looking !== undefined
    ? (
      <>
        <button class="btn line fold" type="button" onClick={() => desk.useEntry(looking)}>Use these settings</button>
        {!narrow.value && (
          <button class="btn" type="button" onClick={() => store.dispatch(actions.look, undefined)}>Back</button>
        )}
      </>
    )
    : busy && asksForMore(state)
    ? <button class="btn line fold" type="button" onClick={() => controller.draw()}>Queue these settings</button>
    : null;
  return (
    <footer class="dock" style={{ "--p": progressOf(state) }}>
      <span class="progress" />
      <div>
        <button
          class={`btn primary ${busy ? "stop" : ""}`}
          type="button"
          disabled={model.status !== "open"}
          onClick={(event) => {
            if (event.detail > 1) return; // a double click does not stop what it began
            void (busy ? controller.stop() : controller.draw());
          }}
        >
          {busy ? "Stop" : "Draw"}
        </button>
        <p role="status">
          <strong>{strong}</strong>
          {small}
        </p>
        {!narrow.value && (
          <fieldset class="dials">
            <legend class="sr">How pictures are drawn</legend>
            <SeedDial />
            <StepsDial max={maxSteps} />
            {!medium.value && (
              <>
                <GuidanceDial />
                <SamplerDial />
                <SizeDial />
              </>
            )}
          </fieldset>
        )}
        {(!narrow.value || offer === null) && (
          <button
            class="btn square"
            type="button"
            aria-label="All settings"
            title="All settings"
            onClick={() => dialog.value = "settings"}
          >
            <Icon name="sliders" />
          </button>
        )}
        {offer}
        <span class="spring" />
        {(!narrow.value || offer === null) && <ViewSwitch />}
        {!narrow.value && (
          <button
            class="btn line"
            type="button"
            disabled={model.status !== "open"}
            onClick={() => dialog.value = "grid"}
          >
            <Icon name="grid" />Grid
          </button>
        )}
      </div>
    </footer>
  );
}

/** From 0 to 1: of loading, or of drawing. */
function progressOf({ model, jobs: [job], running }: State): number {
  if (model.status === "opening") return model.totalBytes > 0 ? model.doneBytes / model.totalBytes : 0;
  if (job === undefined) return 0;
  return (job.done + (running ? running.step / running.steps : 0)) / job.tasks.length;
}

/** Whether the settings differ from those of the last job in the queue. */
function asksForMore(state: State): boolean {
  return JSON.stringify(recipeOf(state)) !== JSON.stringify(state.jobs.at(-1)?.recipe);
}

function ViewSwitch(): JSX.Element {
  const { store } = useStudio();
  const { view } = store.state.value;
  const at = views.findIndex((other) => other.view === view);
  return (
    <>
      <fieldset class="seg views">
        <legend class="sr">How before and after are shown</legend>
        {views.map(({ view: other, label }) => (
          <label key={other} title={label}>
            <input
              type="radio"
              name="view"
              checked={view === other}
              aria-label={label}
              onChange={() => store.dispatch(actions.setView, other)}
            />
            <Icon name={other as IconName} />
          </label>
        ))}
      </fieldset>
      <button
        class="btn square one-view"
        type="button"
        aria-label={`View: ${views[at].label}. Show the next`}
        onClick={() => store.dispatch(actions.setView, views[(at + 1) % views.length].view)}
      >
        <Icon name={view as IconName} />
      </button>
    </>
  );
}
