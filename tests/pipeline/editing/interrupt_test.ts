import { assert, assertEquals, assertRejects } from "@std/assert";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { type EditableModel, encodeOnHost } from "../../../pipeline/editing/editable_model.ts";
import { StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { GpuError } from "../../../engine/errors.ts";
import { gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

const pair = { source: "a rose", destination: "a blue rose" };
const texts = Array.from({ length: 100 }, (_, i) => `rose ${i}`);

gpuTest("an abort stops solving between batches of prompts, with the signal's reason", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  for (const method of ["time", "uce"] as const) {
    const stop = new AbortController();
    let batches = 0;
    const model: EditableModel = {
      gpu,
      tokenizer: pipe.tokenizer,
      crossAttentions: pipe.crossAttentions,
      encodeTexts: (some) => pipe.encodeTexts(some),
      holdTexts: (some) => {
        const held = pipe.holdTexts(some);
        return {
          encode: (from, to) => {
            if (++batches === 4) stop.abort(new Error("enough"));
            return held.encode(from, to);
          },
          [Symbol.dispose]: () => held[Symbol.dispose](),
        };
      },
    };
    const solving = ModelEdit.solve([pair], { method, preserve: texts, signal: stop.signal }, model);
    await assertRejects(() => solving, Error, "enough");
    assert(batches < 6, `${batches} batches`);
    await assertRejects(() => ModelEdit.solve([pair], { signal: stop.signal }, model), Error, "enough");
  }
});

gpuTest("a solve that fails leaves no encoding behind that still runs", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  let running = 0;
  const model: EditableModel = {
    gpu,
    tokenizer: pipe.tokenizer,
    crossAttentions: pipe.crossAttentions,
    // The batch of few texts fails at once; that of the concepts takes its time.
    encodeTexts: async (some) => {
      if (some.length < 10) throw new Error("cannot encode");
      running++;
      await new Promise((resolve) => setTimeout(resolve, 50));
      running--;
      return pipe.encodeTexts(some);
    },
  };
  const solving = ModelEdit.solve([pair], { method: "uce", preserve: texts.slice(0, 15) }, model);
  await assertRejects(() => solving, Error, "cannot encode");
  assertEquals(running, 0);
});

gpuTest("an abort stops solving again for another lambda, and the edit stays as it was", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  using edit = await ModelEdit.solve([pair], { lamb: 1, signal: new AbortController().signal }, pipe);
  const { report } = edit;
  await assertRejects(() => edit.resolve({ lamb: 2, signal: AbortSignal.abort(new Error("enough")) }), Error, "enough");
  assertEquals(edit.report, report);
  assertEquals((await edit.resolve({ lamb: 2 })).lamb, 2);
});

gpuTest("an edit whose pipeline, or which itself, is disposed of meanwhile is freed, and says so", async (gpu) => {
  for (const wait of [0, 1, 5, 20]) {
    const pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
    const edit = await ModelEdit.solve([pair], {}, pipe);
    const solvingAgain = assertRejects(() => edit.resolve({ lamb: 2 }), GpuError, "after it was disposed");
    const editing = assertRejects(() => pipe.editModel(pair.source, pair.destination), GpuError);
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const live = gpu.memory.live;
    edit[Symbol.dispose]();
    pipe[Symbol.dispose]();
    assert(gpu.memory.live < live);
    await Promise.all([solvingAgain, editing]);
    await assertRejects(() => pipe.editModel(pair.source, pair.destination), GpuError, "after it was disposed");
  }
});

gpuTest("an edit on the stack that was disposed of refuses a call, and the others stay free", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  const { live } = gpu.memory;
  const edits = [await ModelEdit.solve([pair], {}, pipe), await ModelEdit.solve([pair], { lamb: 1 }, pipe)];
  for (const edit of edits) pipe.edits.push(edit);
  edits[1][Symbol.dispose]();
  await assertRejects(() => pipe.generate("a rose", { numInferenceSteps: 1 }), GpuError, "after it was disposed");
  pipe.edits.clear();
  edits[0][Symbol.dispose]();
  assertEquals(gpu.memory.live, live);
});

gpuTest(
  "held texts are encoded as at the call, although the tokenizer and the encoder change meanwhile",
  async (gpu) => {
    using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
    const before = await encodeOnHost(pipe, texts);
    const encoding = encodeOnHost(pipe, texts);
    const id = pipe.tokenizer.encode("rose")[1];
    pipe.textEncoder.setAddedToken(id, new Float32Array(before.width).fill(1));
    assertEquals(await encoding, before);
    const after = await encodeOnHost(pipe, texts);
    assert(after.embeddings.get(texts[99])!.some((value, i) => value !== before.embeddings.get(texts[99])![i]));
  },
);
