/**
 * What every painter does alike, whether a worker or a server draws: one suite for all.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { DrawProgress, Painter } from "../../studio/painter.ts";
import { PainterError } from "../../studio/painter.ts";
import { StudioSession } from "../../studio/session.ts";
import { pocket } from "../pocket_drawing.ts";
import { blueRoses, pictureOf } from "./requests.ts";

/** Holds a painter against the session over the library. */
export async function checkPainter(painter: Painter): Promise<void> {
  const session = new StudioSession({ place: painter.place, pocket });
  try {
    const first = await assertRejects(() => painter.predict([], []), PainterError, "No model is open");
    assertEquals(first.failure.kind, "input");
    const estimate = await painter.estimate({ kind: "pocket" });
    assertEquals(estimate, await session.estimate({ kind: "pocket" }));
    const loaded: number[] = [];
    const facts = await painter.open({ kind: "pocket" }, (done, total) => void loaded.push(done / total));
    assertEquals(facts, await session.open({ kind: "pocket" }, () => {}));
    assert(loaded.length > 1 && loaded.at(-1) === 1, "the progress of loading arrives");

    for (const pair of [blueRoses.pairs[0], { source: "a cat", destination: "a dog" }]) {
      for (const tokens of ["all", "last"] as const) {
        assertEquals(await painter.align(pair, tokens), await session.align(pair, tokens));
      }
    }
    const prompts = ["A pack of roses", "a cat"];
    const { changes } = await painter.predict([blueRoses], prompts);
    const expected = await session.predict([blueRoses], prompts);
    changes.forEach((change, i) => assert(Math.abs(change - expected.changes[i]) < 1e-4));
    const curves = await painter.curves([blueRoses], { open: 0, prompts, lambdas: [1e-30, 1] });
    assert(curves.changes.every((values) => values.length === 2));
    const ownCurves = await session.curves([blueRoses], { open: 0, prompts, lambdas: [1e-30, 1] });
    assertEquals(curves.changes.map(([gap]) => Number.isNaN(gap)), ownCurves.changes.map(([gap]) => Number.isNaN(gap)));

    const request = { ...pictureOf("a rose"), edits: [blueRoses] };
    const progress: DrawProgress[] = [];
    const { pixels, ms } = await painter.draw(request, (each) => void progress.push(each));
    const own = await session.draw(request, () => {});
    assert(pixels.data.every((value, i) => Math.abs(value - own.pixels.data[i]) / 255 <= 1e-4), "the same picture");
    assert(pixels.data instanceof Uint8ClampedArray && ms > 0);
    assertEquals(progress.filter(({ step }) => step > 0).map(({ step, steps }) => [step, steps]), [[1, 2], [2, 2]]);

    const endless = { ...request, settings: { ...request.settings, steps: 900 } };
    let previews = 0;
    const stopped = await assertRejects(
      () =>
        painter.draw(endless, ({ preview }) => {
          if (preview === undefined) return;
          previews++;
          void painter.stop();
        }),
      PainterError,
    );
    assertEquals(stopped.failure.kind, "aborted");
    assert(previews > 0, "a preview arrived");

    const png = await painter.encode(request, pixels, { withText: true });
    assertEquals(png.bytes, (await session.encode(request, own.pixels, { withText: true })).bytes);
    assertEquals(await painter.read(new Blob([png.bytes]), png.name), { kind: "picture", ...request });
    const lora = await painter.saveLora([blueRoses]);
    assertEquals(lora.bytes, (await session.saveLora([blueRoses])).bytes);
    const edit = await painter.saveEdit(blueRoses);
    assertEquals(await painter.read(new Blob([edit.bytes]), edit.name), { kind: "edit", edit: blueRoses });
    await painter.useLora(new Blob([lora.bytes]), lora.name);
    await session.useLora(new Blob([lora.bytes]), lora.name);
    const withLora = await painter.draw(pictureOf("a rose"), () => {});
    const ownWithLora = await session.draw(pictureOf("a rose"), () => {});
    assert(withLora.pixels.data.every((value, i) => Math.abs(value - ownWithLora.pixels.data[i]) / 255 <= 1e-4));
    await painter.useLora(null, "");

    const wrong = { ...request, settings: { ...request.settings, width: 33 } };
    const refused = await assertRejects(() => painter.draw(wrong, () => {}), PainterError);
    const ownRefusal = await assertRejects(() => session.draw(wrong, () => {}), PainterError);
    assertEquals(refused.failure, ownRefusal.failure);
    const unknown = { kind: "file", name: "notes.txt", file: new Blob(["hello"]) } as const;
    await assertRejects(() => painter.open(unknown, () => {}), PainterError);
    await painter.draw(pictureOf("a cat"), () => {}); // the model before it is still open
  } finally {
    await session.close();
  }
}
