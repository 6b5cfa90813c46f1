/** Starts the page. @module */

import { render } from "preact";
import { effect } from "@preact/signals";
import * as actions from "./actions.ts";
import { App } from "./components/app.tsx";
import { StudioContext } from "./components/context.ts";
import { restoreTheme } from "./components/top.tsx";
import { Controller } from "./controller.ts";
import { Desk } from "./desk.ts";
import { HistoryStore } from "./history.ts";
import { findPlaces, webGpuAdvice } from "./places.ts";
import { initialState } from "./state.ts";
import { Store } from "./store.ts";

restoreTheme();
const store = new Store(initialState());
const places = await findPlaces();
const { painter, choice } = places[places.first]!;
const controller = new Controller(store, painter(), choice);
const kept = await HistoryStore.open().catch(() => undefined);
const desk = new Desk(store, controller, kept);
await desk.readLink();

document.querySelector(".too-old")?.remove();
render(
  <StudioContext.Provider value={{ store, controller, desk, places }}>
    <App />
  </StudioContext.Provider>,
  document.body,
);

if (kept !== undefined) {
  store.dispatch(actions.addHistory, await kept.all().catch(() => []));
  let last = store.now.history;
  let writing: Promise<unknown> = Promise.resolve();
  effect(() => {
    const { history } = store.state.value;
    if (history === last) return;
    const before = last;
    last = history;
    // A full disk leaves history in memory only.
    writing = writing.then(() => kept.keep(before, history)).catch(() => {});
  });
}
addEventListener("hashchange", () => void desk.readLink());
if (!places.hasWebGpu && places.first === "server") {
  store.dispatch(actions.notify, {
    tone: "calm" as const,
    title: "This browser has no WebGPU, so pictures are drawn on the server",
    text: webGpuAdvice,
    stays: true,
  });
}
await controller.reopen();
desk.compareLinkedModel();
