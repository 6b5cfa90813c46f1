/** What the page asks of its painter, and when. */
import { assert, assertEquals } from "@std/assert";
import { effect } from "@preact/signals";
import { PainterError } from "../../studio/painter.ts";
import * as actions from "../../studio/page/actions.ts";
import { Controller } from "../../studio/page/controller.ts";
import { cardsOf, statusOf } from "../../studio/page/stage.ts";
import { initialState } from "../../studio/page/state.ts";
import { Store } from "../../studio/page/store.ts";
import { FakePainter } from "./fake_painter.ts";

/** Lets all answers arrive that are on their way. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

async function opened() {
  const painter = new FakePainter();
  const store = new Store(initialState());
  const controller = new Controller(store, painter);
  await controller.reopen();
  await settled();
  return { painter, store, controller };
}

Deno.test("an open model is asked for predictions, curves and the alignment, without drawing", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  assertEquals(painter.drawn, []);
  assertEquals(store.now.changes["a field of roses"], 1);
  assertEquals(store.now.changes["a lemon"], 0.1);
  assertEquals(store.now.curves?.changes["a lemon"].length, 15);
  assertEquals(Object.values(store.now.alignments).map(({ ok }) => ok), [true]);
});

Deno.test("moving λ asks for one prediction at a time, the last of them for the last λ; curves stay", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  const { promise, resolve } = Promise.withResolvers<void>();
  painter.gate = promise;
  const before = painter.predictions.length;
  for (let i = 1; i <= 20; i++) store.dispatch(actions.setEdit, 0, { lambda: i }, "lambda");
  await settled();
  assertEquals(painter.predictions.length, before + 1);
  resolve();
  await settled();
  assertEquals(painter.predictions.length, before + 2);
  assertEquals(painter.predictions.at(-1)!.edits[0].lambda, 20);
  assertEquals(painter.curvesCalls, 1);
});

Deno.test("strength changes the predictions without a draw", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  store.dispatch(actions.setEdit, 0, { strength: 0.5 }, "strength");
  await settled();
  assertEquals(store.now.changes["a rose in a vase"], 0.5);
  assertEquals(painter.drawn, []);
});

Deno.test("draw draws prompt by prompt, before and after, and keeps history", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  await controller.draw();
  assertEquals(painter.drawn.length, 12);
  assertEquals(painter.drawn.slice(0, 2).map(({ prompt, edits }) => [prompt, edits.length]), [
    ["A pack of roses", 0],
    ["A pack of roses", 1],
  ]);
  assertEquals(store.now.history.length, 1);
  assert(cardsOf(store.now).every(({ before, after }) => before && after));
});

Deno.test("stop keeps what is finished and drops what is queued", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  painter.onDraw = async (_, count) => {
    if (count !== 4) return;
    void controller.draw(); // one more drawing in the queue
    await settled();
    assertEquals(store.now.jobs.length, 2);
    void controller.stop();
    await new Promise(() => {}); // only the abort ends this picture
  };
  await controller.draw();
  assertEquals(painter.drawn.length, 4);
  assertEquals(store.now.jobs, []);
  assertEquals(cardsOf(store.now).filter(({ after }) => after).length, 1);
  assertEquals(cardsOf(store.now).filter(({ before }) => before).length, 2);
  assertEquals(store.now.notices, []);
});

Deno.test("what is asked while drawing is drawn afterwards, with the settings of that moment", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  painter.onDraw = (_, count) => {
    if (count !== 2) return;
    store.dispatch(actions.setSettings, { seed: "77" });
    void controller.draw();
    return settled().then(() => store.dispatch(actions.setSettings, { seed: "78" }));
  };
  await controller.draw();
  assertEquals(painter.drawn.slice(0, 12).map(({ settings }) => settings.seed), Array(12).fill("2"));
  assertEquals(painter.drawn.slice(12).map(({ settings }) => settings.seed), Array(12).fill("77"));
  assertEquals(store.now.history.map(({ recipe }) => recipe.settings.seed), ["77", "2"]);
});

Deno.test("an edit that is off is drawn once for before and after", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  store.dispatch(actions.setEdit, 0, { enabled: false });
  await controller.draw();
  assertEquals(painter.drawn.length, 6);
  assert(cardsOf(store.now).every(({ before, after }) => before && after));
});

Deno.test("fields that cannot be aligned are not applied, and nothing is drawn", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  store.dispatch(actions.typePair, 0, { destination: "A bunch of blue roses" });
  assertEquals(await controller.apply(), false);
  await controller.draw();
  assertEquals(painter.drawn, []);
  assertEquals(store.now.edits[0].spec.pairs[0].destination, "A pack of blue roses");
});

Deno.test("a model that cannot be opened is said, and can be opened again", async () => {
  const painter = new FakePainter();
  painter.openError = new PainterError({ kind: "device", message: "no GPU" });
  const store = new Store(initialState());
  using controller = new Controller(store, painter);
  await controller.reopen();
  assertEquals(store.now.model, { status: "failed", failure: { kind: "device", message: "no GPU" } });
  painter.openError = undefined;
  await controller.reopen();
  assertEquals(store.now.model.status, "open");
});

Deno.test("a picture that fails ends the drawing with a message and keeps the others", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  painter.onDraw = (_, count) => {
    if (count === 3) throw new PainterError({ kind: "device", message: "The device was lost" });
  };
  await controller.draw();
  assertEquals(store.now.notices.map(({ tone, text }) => [tone, text]), [["error", "The device was lost"]]);
  assertEquals(cardsOf(store.now).filter(({ after }) => after).length, 1);
  assertEquals(store.now.jobs, []);
});

Deno.test("a model that cannot be opened leaves the one before in use, and says why", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  painter.openError = new PainterError({ kind: "input", message: "It holds no UNet" });
  await controller.open({ kind: "file", name: "holiday.safetensors", file: new Blob() });
  assertEquals(store.now.model.status, "open");
  assertEquals(store.now.notices.map(({ title, text }) => [title, text]), [
    ["holiday.safetensors cannot be opened", "It holds no UNet"],
  ]);
});

Deno.test("an applied edit counts as solved when the painter has answered", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  const { promise, resolve } = Promise.withResolvers<void>();
  painter.gate = promise;
  store.dispatch(actions.typePair, 0, { destination: "A pack of white roses" });
  await controller.apply();
  assertEquals(statusOf(store.now, 0).strong, "Solving the edit");
  resolve();
  await settled();
  assertEquals(statusOf(store.now, 0).strong, "edited in 12 ms");
});

Deno.test("stopping a picture that waits for its turn leaves the one that is drawn", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  const stop = new AbortController();
  let grid: Promise<unknown> = Promise.resolve();
  painter.onDraw = async (request, count) => {
    if (count !== 1) return;
    grid = controller.drawInTurn(request, undefined, stop.signal).catch(({ name }) => name);
    stop.abort();
    await settled();
  };
  await controller.draw();
  assertEquals(await grid, "AbortError");
  assertEquals(painter.drawn.length, 12);
  assertEquals(store.now.lastDrawing?.stopped, false);
});

Deno.test("the status claims an edit only together with its meters", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  const first = Promise.withResolvers<void>(), last = Promise.withResolvers<void>();
  painter.gate = first.promise;
  store.dispatch(actions.setEdit, 0, { strength: 0.5 }, "strength");
  assertEquals(statusOf(store.now, 0).strong, "edited in … ms"); // a slider moves
  store.dispatch(actions.setEdit, 0, { enabled: false });
  assertEquals(statusOf(store.now, 0).strong, "Solving the edit");
  painter.gate = last.promise;
  first.resolve();
  await settled();
  assertEquals(store.now.changes["a field of roses"], 0.5); // meters follow
  assertEquals(statusOf(store.now, 0).strong, "Solving the edit");
  last.resolve();
  await settled();
  assertEquals(store.now.changes["a field of roses"], 0);
  assertEquals(statusOf(store.now, 0).strong, "edited in 12 ms");
});

Deno.test("a failure of an earlier question is not told while a later one is asked", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  const { promise, reject } = Promise.withResolvers<void>();
  painter.gate = promise;
  store.dispatch(actions.setEdit, 0, { lambda: 1e-9 });
  painter.gate = Promise.resolve();
  store.dispatch(actions.setEdit, 0, { lambda: 1 });
  let failures = 0;
  using _following = { [Symbol.dispose]: effect(() => void (failures += store.state.value.editFailure ? 1 : 0)) };
  reject(new PainterError({ kind: "input", message: "λ is too small" }));
  await settled();
  assertEquals([failures, statusOf(store.now, 0).strong], [0, "edited in 12 ms"]);
});

Deno.test("a page that waits for another one says so once", async () => {
  const { painter, store, controller } = await opened();
  using _ = controller;
  painter.waiting = 2;
  await controller.draw();
  assertEquals(store.now.notices.map(({ title }) => title), ["Other pages draw on the same device"]);
  store.dispatch(actions.dismiss, store.now.notices[0].id);
  await controller.draw();
  assertEquals(store.now.notices, []);
});
