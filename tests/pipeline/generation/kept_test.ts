import { assertEquals, assertNotEquals } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { type EditingGenerateOptions, StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { EulerDiscreteScheduler, TorchGenerator } from "../../../schedulers/mod.ts";
import { gpuTest } from "../../gpu.ts";

const goldens = `${import.meta.dirname}/../../goldens`;
const lora = `${goldens}/lora_kohya.safetensors`;

type Pipe = StableDiffusionModelEditingPipeline;
type Options = EditingGenerateOptions<"array">;

const open = (gpu: Gpu): Promise<Pipe> =>
  StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });

async function draw(pipe: Pipe, options: Options = {}): Promise<Float32Array> {
  const { images } = await pipe.generate("a field of roses", {
    numInferenceSteps: 2,
    generator: new TorchGenerator(3),
    outputType: "array",
    ...options,
  });
  return images;
}

/** Counts what a generation encodes and captures, apart from rehearsals. */
function counted(gpu: Gpu, pipe: Pipe): { read(): [encoded: number, captured: number] } & Disposable {
  let encoded = 0, captured = 0;
  const { textEncoder } = pipe;
  const { forward } = textEncoder, { capture } = gpu;
  pipe.textEncoder.forward = (...args) => (encoded++, forward.apply(textEncoder, args));
  gpu.capture = ((body: () => unknown) => (captured++, capture.call(gpu, body))) as Gpu["capture"];
  return {
    read: () => {
      const counts: [number, number] = [encoded, captured];
      encoded = captured = 0;
      return counts;
    },
    [Symbol.dispose]: () => {
      textEncoder.forward = forward;
      gpu.capture = capture;
    },
  };
}

gpuTest("a second call with the same prompt encodes and captures nothing, and gives the same bytes", async (gpu) => {
  using pipe = await open(gpu);
  const first = await draw(pipe);
  const live = gpu.memory.live;
  using counts = counted(gpu, pipe);
  assertEquals(await draw(pipe), first);
  assertEquals(counts.read(), [0, 0]);
  assertEquals(gpu.memory.live, live, "one context and one program are kept");
  pipe.scheduler = EulerDiscreteScheduler.fromConfig(pipe.scheduler.config);
  const euler = await draw(pipe);
  using fresh = await open(gpu);
  fresh.scheduler = EulerDiscreteScheduler.fromConfig(fresh.scheduler.config);
  assertEquals(euler, await draw(fresh));
});

gpuTest("when its inputs change, a context is recomputed, and pictures equal a new pipeline's", async (gpu) => {
  using pipe = await open(gpu);
  using edit = await ModelEdit.solve([{ source: "A pack of roses", destination: "A pack of blue roses" }], {}, pipe);
  const changes: Record<string, { change?: (pipe: Pipe) => unknown; options?: Options }> = {
    "an edit": { change: (pipe) => pipe.edits.push(edit) },
    "its strength": {
      change: (pipe) => {
        if (pipe.edits.length === 0) pipe.edits.push(edit);
        pipe.edits.setStrength(edit, 0.5);
      },
    },
    "no edit": { change: (pipe) => pipe.edits.clear() },
    "a LoRA": { change: (pipe) => pipe.loadLoraWeights(lora, { name: "lora" }) },
    "its scale": {
      change: async (pipe) => void (pipe.loras.size === 0 && await pipe.loadLoraWeights(lora, { name: "lora" })),
      options: { crossAttentionKwargs: { scale: 0.5 } },
    },
    "no LoRA": { change: (pipe) => pipe.loras.size > 0 && pipe.unloadLoraWeights() },
    "clip skip": { options: { clipSkip: 1 } },
    "negative prompts": { options: { negativePrompt: "blurry" } },
    "guidance": { options: { guidanceScale: 3 } },
    "the size": { options: { height: 48 } },
  };
  let last = await draw(pipe);
  for (const [what, { change, options }] of Object.entries(changes)) {
    await change?.(pipe);
    const picture = await draw(pipe, options);
    assertNotEquals(picture, last, what);
    assertEquals(await draw(pipe, options), picture, `${what}, again`);
    using fresh = await open(gpu);
    await change?.(fresh);
    assertEquals(await draw(fresh, options), picture, `${what}, in a fresh pipeline`);
    fresh.edits.clear();
    last = picture;
  }
});

gpuTest("a context is recomputed after its edit is solved for another lambda", async (gpu) => {
  using pipe = await open(gpu);
  const pairs = [{ source: "A pack of roses", destination: "A pack of blue roses" }];
  using edit = await ModelEdit.solve(pairs, { lamb: 0.1 }, pipe);
  pipe.edits.push(edit);
  const before = await draw(pipe);
  await edit.resolve({ lamb: 100 });
  using counts = counted(gpu, pipe);
  const after = await draw(pipe);
  assertNotEquals(counts.read()[0], 0, "the prompt is encoded again");
  assertNotEquals(after, before);
  assertEquals(await draw(pipe), after);
  assertEquals(counts.read(), [0, 0], "the new context is kept");
  using fresh = await open(gpu);
  using solved = await ModelEdit.solve(pairs, { lamb: 100 }, fresh);
  fresh.edits.push(solved);
  assertEquals(await draw(fresh), after);
});

gpuTest(
  "overlapping calls generate the same as alone; edits and schedulers changed meanwhile have no effect on them",
  async (gpu) => {
    using pipe = await open(gpu);
    const [roses, cat] = [await draw(pipe), await draw(pipe, { negativePrompt: "a cat" })];
    const both = [draw(pipe), draw(pipe, { negativePrompt: "a cat" })];
    pipe.scheduler = EulerDiscreteScheduler.fromConfig(pipe.scheduler.config);
    assertEquals(await Promise.all(both), [roses, cat]);
  },
);

gpuTest("an unloaded LoRA is freed at once, even if a captured program read it", async (gpu) => {
  using pipe = await open(gpu);
  const live = gpu.memory.live;
  await pipe.loadLoraWeights(lora);
  await draw(pipe);
  pipe.unloadLoraWeights();
  assertEquals(gpu.memory.live, live);
});
