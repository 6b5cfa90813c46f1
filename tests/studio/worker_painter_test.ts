/** The painter in a worker, on Deno's own workers. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Painter, PainterError } from "../../studio/painter.ts";
import { RecoveringPainter } from "../../studio/painters/recovering_painter.ts";
import { workerPainter } from "../../studio/painters/worker_painter.ts";
import { pocket } from "../pocket_drawing.ts";
import { checkPainter } from "./painter_suite.ts";
import { pictureOf } from "./requests.ts";

const script = new URL("../../studio/painters/worker.ts", import.meta.url);

Deno.test("the worker's painter behaves as the session does", async () => {
  const painter = workerPainter({ worker: () => new Worker(script, { type: "module" }), pocket });
  try {
    await checkPainter(painter);
  } finally {
    await painter.close();
  }
});

Deno.test("a worker that stops fails its calls; the next call starts another and opens the model", async () => {
  let started = 0;
  const failing = URL.createObjectURL(
    new Blob([
      `import ${JSON.stringify(script.href)};
      addEventListener("message", ({ data }) => {
        if (JSON.stringify(data).includes('"draw"')) setTimeout(() => { throw new Error("crash"); });
      });`,
    ], { type: "text/javascript" }),
  );
  const worker = () => new Worker(started++ === 0 ? failing : script, { type: "module" });
  const painter = workerPainter({ worker, pocket });
  try {
    await painter.open({ kind: "pocket" }, () => {});
    const request = pictureOf("a rose");
    const endless = { ...request, settings: { ...request.settings, steps: 900 } };
    const { failure } = await assertRejects(() => painter.draw(endless, () => {}), PainterError, "crash");
    assertEquals(failure.kind, "device");
    assertEquals((await painter.draw(request, () => {})).pixels.width, 32);
    assertEquals(started, 2);
  } finally {
    await painter.close();
    URL.revokeObjectURL(failing);
  }
});

Deno.test("RecoveringPainter replaces a lost device, and keeps the model where another cannot be opened", async () => {
  const log: string[] = [];
  let isLost = false;
  const start = (): Painter => {
    log.push("start");
    const calls: Partial<Painter> = {
      place: "browser",
      open: (choice) => {
        const name = "name" in choice ? choice.name : choice.kind;
        log.push(`open ${name}`);
        if (name === "bad") return Promise.reject(new PainterError({ kind: "input", message: "bad" }));
        return Promise.resolve({ name } as never);
      },
      useLora: (_file, name) => Promise.resolve(void log.push(`lora ${name}`)),
      predict: () =>
        isLost
          ? Promise.reject(new PainterError({ kind: "device", message: "lost" }))
          : Promise.resolve({ ms: 0, changes: [] }),
      close: () => Promise.resolve(void log.push("close")),
    };
    return calls as Painter;
  };
  const painter = new RecoveringPainter("browser", start);
  await painter.open({ kind: "pocket" }, () => {});
  await painter.useLora(new Blob(), "blue");
  isLost = true;
  const { failure } = await assertRejects(() => painter.predict([], []), PainterError);
  assertEquals(failure.kind, "device");
  isLost = false;
  await painter.predict([], []);
  assertEquals(log, ["start", "open pocket", "lora blue", "close", "start", "open pocket", "lora blue"]);
  log.length = 0;
  await assertRejects(() => painter.open({ kind: "folder", name: "bad", files: [] }, () => {}), PainterError, "bad");
  await painter.predict([], []);
  assertEquals(log, ["open bad", "open pocket", "lora blue"]);
  await painter.close();
  assert(log.at(-1) === "close");
});
