/** The session over the library, without a page. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { StableDiffusionXLModelEditingPipeline } from "../../pipeline/model_editing_xl.ts";
import { type DrawProgress, type EditSpec, PainterError, type PictureRequest } from "../../studio/painter.ts";
import { StudioSession } from "../../studio/session.ts";
import { gpuTest } from "../gpu.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { goldens } from "../paths.ts";
import { pocket } from "../pocket_drawing.ts";
import { blueRoses, otherMethods, pictureOf } from "./requests.ts";

/** A session on the test's device, closed at the end of a block. */
function sessionOn(gpu: Gpu, served?: string): StudioSession & AsyncDisposable {
  const session = new StudioSession({
    place: "server",
    pocket: pocket.pathname,
    served,
    gpu: () => Promise.resolve(gpu),
    ownsGpu: false,
  });
  return Object.assign(session, { [Symbol.asyncDispose]: () => session.close() });
}

async function opened(gpu: Gpu): Promise<StudioSession & AsyncDisposable> {
  const session = sessionOn(gpu);
  await session.open({ kind: "pocket" }, () => {});
  return session;
}

const xlFolder = `${goldens}/sdxl-mini`;

/** The files of a model's folder, as a browser gives them. */
async function filesOf(folder: URL): Promise<{ path: string; file: Blob }[]> {
  const paths: string[] = [];
  for (const entry of Deno.readDirSync(folder)) {
    if (entry.isFile) paths.push(entry.name);
    else {for (const { name } of Deno.readDirSync(new URL(`${entry.name}/`, folder))) {
        paths.push(`${entry.name}/${name}`);
      }}
  }
  return await Promise.all(
    paths.map(async (path) => ({ path, file: new Blob([await Deno.readFile(new URL(path, folder))]) })),
  );
}

/** The kind of the failure that a call ends with. */
async function failureKind(call: Promise<unknown>): Promise<string> {
  const { failure } = await assertRejects(() => call, PainterError);
  return failure.kind;
}

gpuTest("predictions are the leakage of ModelEdit, over the full move of the pair", async (gpu) => {
  await using session = await opened(gpu);
  const prompts = ["A pack of roses", "a rose in a vase", "a cat"];
  const { changes } = await session.predict([blueRoses], prompts);
  const nearly = await session.predict([{ ...blueRoses, lambda: 1e-6 }], ["A pack of roses"]);

  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(pocket.pathname, { gpu });
  using edit = await ModelEdit.solve(blueRoses.pairs, { lamb: blueRoses.lambda }, pipe);
  const leakage = await edit.leakage(prompts);
  // One factor, the full move, relates all of them.
  const full = leakage[0] / changes[0];
  changes.forEach((change, i) => assert(Math.abs(change * full - leakage[i]) < 1e-4 * full, `prompt ${i}`));
  assert(Math.abs(nearly.changes[0] - 1) < 0.05, `a source moves fully as λ → 0: ${nearly.changes[0]}`);
  assert(changes[0] > changes[2], "the source moves more than a cat");
});

gpuTest("an open model has its kernels for edits, whose time is then that of the edit", async (gpu) => {
  await using session = await opened(gpu);
  const compiled: string[] = [];
  using _listener = gpu.onCompile((kernel) => compiled.push(kernel));
  const { ms } = await session.predict([blueRoses], ["A pack of roses", "a cat"]);
  assert(ms > 0);
  assertEquals(compiled, []);
});

gpuTest("a stack is predicted as the pipeline applies it: strengths, order, equal edits", async (gpu) => {
  await using session = await opened(gpu);
  const change = async (...edits: EditSpec[]) => (await session.predict(edits, ["A pack of roses"])).changes[0];
  const whole = await change(blueRoses);
  assert(Math.abs(await change({ ...blueRoses, strength: 0.5 }) - whole / 2) < 1e-3, "half the strength, half the way");
  assertEquals(await change({ ...blueRoses, enabled: false }), 0);
  const twice = await change(blueRoses, { ...blueRoses, lambda: 100 });
  assert(Math.abs(twice - whole) > 1e-3, "the second of two equal edits keeps its own λ");
  const { ms } = await session.predict([blueRoses], []);
  assertEquals(ms, 0, "what is known is not solved again");
});

gpuTest("curves() equals predict() at each λ; a later call stops it", async (gpu) => {
  await using session = await opened(gpu);
  const lambdas = [0.01, 1], prompts = ["a rose in a vase"];
  const { changes } = await session.curves([blueRoses], { open: 0, prompts, lambdas });
  for (const [i, lambda] of lambdas.entries()) {
    const predicted = await session.predict([{ ...blueRoses, lambda }], prompts);
    assert(Math.abs(changes[0][i] - predicted.changes[0]) < 1e-5, `λ = ${lambda}`);
  }
  const first = session.curves([blueRoses], { open: 0, prompts, lambdas });
  const [kind] = await Promise.all([
    failureKind(first),
    session.curves([blueRoses], { open: 0, prompts, lambdas }),
  ]);
  assertEquals(kind, "aborted");
});

gpuTest("opening another model ends predictions and curves; those after it are answered", async (gpu) => {
  await using session = await opened(gpu);
  const prompts = Array.from({ length: 200 }, (_, i) => `a rose number ${i}`);
  const { changes } = await session.predict([blueRoses], prompts.slice(0, 1));
  const asked = [
    session.predict([blueRoses, { ...blueRoses, lambda: 5 }], prompts),
    session.curves([blueRoses], { open: 0, prompts, lambdas: [0.01, 1] }),
  ].map(failureKind);
  await session.open({ kind: "pocket" }, () => {});
  assertEquals(await Promise.all(asked), ["aborted", "aborted"]);
  assertEquals((await session.predict([blueRoses], prompts.slice(0, 1))).changes, changes);
});

gpuTest("what is asked while a model is opened ends as stopped, not as a fault of the visitor", async (gpu) => {
  await using session = sessionOn(gpu);
  const opening = session.open({ kind: "pocket" }, () => {});
  assertEquals(await failureKind(session.align(blueRoses.pairs[0], "all")), "aborted");
  assertEquals(await failureKind(session.predict([blueRoses], ["a rose"])), "aborted");
  await opening;
  assert((await session.align(blueRoses.pairs[0], "all")).ok);
});

gpuTest("a picture reports its steps, equals generate(), and holds all that redraws it", async (gpu) => {
  await using session = await opened(gpu);
  const request: PictureRequest = { ...pictureOf("a rose"), edits: [{ ...blueRoses, strength: 0.75 }] };
  const progress: DrawProgress[] = [];
  const { pixels } = await session.draw(request, (each) => progress.push(each));
  assertEquals(progress.map(({ step, steps }) => `${step}/${steps}`), ["1/2", "2/2"]);

  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(pocket.pathname, { gpu });
  using edit = await ModelEdit.solve(blueRoses.pairs, { lamb: blueRoses.lambda }, pipe);
  pipe.edits.push(edit, { strength: 0.75 });
  const { images: [image] } = await pipe.generate("a rose", {
    generator: 7n,
    numInferenceSteps: 2,
    guidanceScale: 5,
    width: 32,
    height: 32,
  });
  assert(pixels.data.every((value, i) => value === image.bitmap.data[i]), "the same bytes");

  const { bytes, name, type } = await session.encode(request, pixels, { withText: true });
  assertEquals([name, type], ["a-rose-7.png", "image/png"]);
  const content = await session.read(new Blob([bytes]), name);
  assertEquals(content, { kind: "picture", ...request });
  const bare = await session.encode(request, pixels, { withText: false });
  assert(bare.bytes.length < bytes.length);
  assertEquals(await failureKind(session.read(new Blob([bare.bytes]), "bare.png")), "input");
});

gpuTest("stop() ends the picture and those that wait; the next one is drawn", async (gpu) => {
  await using session = await opened(gpu);
  const request = pictureOf("a rose");
  const draw = () =>
    session.draw({ ...request, settings: { ...request.settings, steps: 50 } }, () => void session.stop());
  assertEquals(await Promise.all([failureKind(draw()), failureKind(draw())]), ["aborted", "aborted"]);
  await session.draw(request, () => {});
});

gpuTest("saved edits and LoRAs are those of the library, and are recognized when dropped", async (gpu) => {
  await using session = await opened(gpu);
  const lora = await session.saveLora([blueRoses]);
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(pocket.pathname, { gpu });
  using edit = await ModelEdit.solve(blueRoses.pairs, { lamb: blueRoses.lambda }, pipe);
  pipe.edits.push(edit);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await pipe.edits.exportLora((chunk) => void parts.push(chunk.slice()), { model: pipe });
  assertEquals(lora.bytes, new Uint8Array(await new Blob(parts).arrayBuffer()));
  const saved = await session.saveEdit({ ...blueRoses, strength: 0.5 });
  assertEquals(await session.read(new Blob([saved.bytes]), saved.name), { kind: "edit", edit: blueRoses });
  assertEquals((await session.read(new Blob([lora.bytes]), lora.name)).kind, "lora");

  const draw = async (edits: readonly EditSpec[]) =>
    (await session.draw({ ...pictureOf("a rose"), edits }, () => {})).pixels.data;
  const [plain, edited] = [await draw([]), await draw([blueRoses])];
  await session.useLora(new Blob([lora.bytes]), lora.name);
  const withLora = await draw([]);
  const distance = (a: Uint8ClampedArray, b: Uint8ClampedArray) =>
    a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0);
  assert(distance(withLora, edited) < distance(plain, edited) / 10, "the LoRA draws what the edit draws");
  await session.useLora(null, "");
  assertEquals(await draw([]), plain);
  await assertRejects(() => session.saveLora([]), PainterError, "No edit is switched on");
});

gpuTest("other editors are predicted, saved, drawn and recognized with their settings", async (gpu) => {
  await using session = await opened(gpu);
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(pocket.pathname, { gpu });
  const prompts = ["a rose", "a cat"];
  for (const spec of otherMethods) {
    const { pairs, lambda: lamb, preserve, method, eraseScale, threshold } = spec;
    const options = method === "uce" ? { method, eraseScale } : { method, threshold };
    using edit = await ModelEdit.solve(pairs, { lamb, preserve, ...options }, pipe);
    const leakage = await edit.leakage(prompts);
    const { changes } = await session.predict([spec], prompts);
    const full = leakage[0] / changes[0];
    assert(Math.abs(changes[1] * full - leakage[1]) < 1e-4 * full, `${method}: ${changes}`);
    assert(changes[0] > 4 * changes[1], `${method} moves the source more than what is preserved: ${changes}`);
    const saved = await session.saveEdit(spec);
    assertEquals(await session.read(new Blob([saved.bytes]), saved.name), { kind: "edit", edit: spec });
    const request = { ...pictureOf("a rose"), edits: [spec] };
    const { pixels } = await session.draw(request, () => {});
    const png = await session.encode(request, pixels, { withText: true });
    const dropped = await session.read(new Blob([png.bytes]), png.name);
    assertEquals(dropped.kind === "picture" && dropped.edits, [spec]);
  }
  const bare = { ...otherMethods[1], preserve: [] };
  await assertRejects(() => session.predict([bare], prompts), PainterError, "lock at least one prompt");
});

gpuTest("dropped edits that the studio cannot show are refused with what they have", async (gpu) => {
  await using session = await opened(gpu);
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(pocket.pathname, { gpu });
  const [{ path }] = pipe.crossAttentions;
  const nullSpace = { method: "nullspace", preserve: ["a cat", "a dog", "a lemon"] } as const;
  const cases = [
    [{ layers: [path] }, "some layers only"],
    [{ ...nullSpace, layers: [path], influenceFilter: true }, "influenceFilter"],
    [{ ...nullSpace, layers: [path], augment: 2 }, "augment"],
    [{ ...nullSpace, retainScale: 0.5 }, "penalizes changes"],
  ] as const;
  for (const [options, reason] of cases) {
    using edit = await ModelEdit.solve([{ source: "a rose", destination: "a blue rose" }], options, pipe);
    const parts: Uint8Array<ArrayBuffer>[] = [];
    await edit.save((chunk) => void parts.push(chunk.slice()));
    await assertRejects(() => session.read(new Blob(parts), "mine.safetensors"), PainterError, reason);
  }
});

gpuTest("what is dropped and cannot be used explains itself", async (gpu) => {
  await using session = await opened(gpu);
  const text = new Blob(["hello"]);
  await assertRejects(() => session.read(text, "notes.txt"), PainterError, "Cannot use notes.txt: pictures saved here");
  await assertRejects(() => session.read(text, "model.ckpt"), PainterError, "pickle");
  const part = new Blob([await Deno.readFile(new URL("vae/diffusion_pytorch_model.safetensors", pocket))]);
  assertEquals(await failureKind(session.read(part, "vae.safetensors")), "input");
  await assertRejects(
    () => session.estimate({ kind: "file", name: "notes.txt", file: text }),
    PainterError,
    "Cannot load notes.txt",
  );
  assertEquals(await failureKind(session.estimate({ kind: "served" })), "input");
  const { fits, bytes, message } = await session.estimate({ kind: "pocket" });
  assert(fits && bytes > 1e6 && message.includes("MiB"), message);
});

gpuTest("a visitor's folder is opened from blobs; what is missing explains itself", async (gpu) => {
  await using session = await opened(gpu);
  const expected = await session.draw(pictureOf("a rose"), () => {});
  const files = await filesOf(pocket);
  const folder = { kind: "folder", name: "mine", files } as const;
  assert((await session.estimate(folder)).fits);
  assertEquals((await session.open(folder, () => {})).name, "mine");
  assertEquals((await session.draw(pictureOf("a rose"), () => {})).pixels, expected.pixels);
  const broken = { ...folder, files: files.filter(({ path }) => !path.startsWith("unet/")) };
  await assertRejects(() => session.estimate(broken), PainterError, "unet");
});

gpuTest("SDXL: facts, second prompts and pooled edits, of a folder dropped or served", async (gpu) => {
  await using session = sessionOn(gpu, xlFolder);
  const facts = await session.open({ kind: "served" }, () => {});
  assertEquals([facts.size, facts.sizeStep, facts.guidance, facts.isXL, facts.samplers[0]], [32, 2, 5, true, "euler"]);
  const plain = pictureOf("a rose");
  const request: PictureRequest = {
    ...plain,
    settings: {
      ...plain.settings,
      sampler: "euler",
      negativePrompt: "a cat",
      prompt2: "a lemon",
      negativePrompt2: "fog",
    },
    edits: [{ ...blueRoses, strength: 0.75, withPooled: true }],
  };
  const { pixels } = await session.draw(request, () => {});

  using pipe = await StableDiffusionXLModelEditingPipeline.fromPretrained(xlFolder, { gpu });
  using edit = await ModelEdit.solve(blueRoses.pairs, { lamb: blueRoses.lambda, withPooled: true }, pipe);
  pipe.edits.push(edit, { strength: 0.75 });
  const options = { generator: 7n, numInferenceSteps: 2, width: 32, height: 32, negativePrompt: "a cat" };
  const { images: [image] } = await pipe.generate("a rose", { ...options, prompt2: "a lemon", negativePrompt2: "fog" });
  assert(pixels.data.every((value, i) => value === image.bitmap.data[i]), "the bytes of generate()");

  const { bytes, name } = await session.encode(request, pixels, { withText: true });
  assertEquals(await session.read(new Blob([bytes]), name), { kind: "picture", ...request });
  const saved = await session.saveEdit(request.edits[0]);
  const dropped = { kind: "edit", edit: { ...blueRoses, withPooled: true } } as const;
  assertEquals(await session.read(new Blob([saved.bytes]), saved.name), dropped);

  const files = await filesOf(new URL(`file://${xlFolder}/`));
  const own = await session.open({ kind: "folder", name: "mine", files }, () => {});
  assertEquals({ ...own, name: facts.name }, facts);
  assertEquals((await session.draw(request, () => {})).pixels, pixels);
  await session.open({ kind: "pocket" }, () => {});
  await assertRejects(() => session.predict(request.edits, ["a rose"]), PainterError, "reads none");
});
