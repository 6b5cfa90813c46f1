/** Messages above the dock; they move nothing. @module */

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import * as actions from "../actions.ts";
import type { Notice, NoticeAction } from "../state.ts";
import { webGpuAdvice } from "../places.ts";
import { dialog, useStudio } from "./context.ts";
import { Icon } from "./icons.tsx";

/** How long a calm message stays. */
const calmMs = 6000;

/** All messages. */
export function Notices(): JSX.Element {
  const { notices } = useStudio().store.state.value;
  return <div class="notices">{notices.map((notice) => <Note key={notice.id} notice={notice} />)}</div>;
}

function Note({ notice: { id, tone, stays, title, text, actions: offers } }: { notice: Notice }): JSX.Element {
  const { store, controller } = useStudio();
  const close = () => store.dispatch(actions.dismiss, id);
  useEffect(() => {
    if (tone === "error" || stays) return;
    const timer = setTimeout(close, calmMs);
    return () => clearTimeout(timer);
  }, [id]);
  const run = (action: NoticeAction) => {
    close();
    if (action === "choose-model") dialog.value = "model";
    else if (action === "reopen") void controller.reopen();
  };
  return (
    <div
      class={`note ${tone === "calm" ? "calm" : ""}`}
      role={tone === "error" ? "alert" : undefined}
      aria-live={tone === "calm" ? "polite" : undefined}
    >
      <Icon name={tone === "error" ? "alert" : "info"} />
      <strong>{title}</strong>
      <button class="btn square close" type="button" aria-label={`Close: ${title}`} onClick={close}>
        <Icon name="x" />
      </button>
      <span>{text}</span>
      {offers.length > 0 && (
        <span class="acts">
          {offers.map(({ label, action }) => (
            <button
              key={label}
              class="btn line"
              type="button"
              onClick={() => run(action)}
            >
              {label}
            </button>
          ))}
        </span>
      )}
    </div>
  );
}

/** Why no model is open, and what can be done: above the page, which stays readable. */
export function ModelFailure(): JSX.Element | null {
  const { store, controller, places } = useStudio();
  const { model } = store.state.value;
  if (model.status !== "failed") return null;
  const { message } = model.failure;
  const noWebGpu = controller.painter.place === "browser" && !places.hasWebGpu;
  return (
    <div class="note top-note" role="alert">
      <Icon name="alert" />
      {noWebGpu
        ? (
          <>
            <strong>This browser has no WebGPU, so it cannot draw here</strong>
            <span>{webGpuAdvice}</span>
          </>
        )
        : (
          <>
            <strong>The model cannot be opened</strong>
            <span>{message}</span>
          </>
        )}
      <span class="acts">
        <ServerButton />
        <button class="btn line" type="button" onClick={() => controller.reopen()}>Try again</button>
        <button class="btn" type="button" onClick={() => dialog.value = "model"}>Choose another model</button>
      </span>
    </div>
  );
}

function ServerButton(): JSX.Element | null {
  const { places: { server }, controller } = useStudio();
  if (server === undefined || controller.painter.place === "server") return null;
  const change = () => void controller.usePainter(server.painter(), server.choice);
  return <button class="btn line" type="button" onClick={change}>Draw on the server instead</button>;
}
