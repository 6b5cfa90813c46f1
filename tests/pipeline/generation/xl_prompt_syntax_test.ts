/** A1111's syntax of prompts, read by both text encoders of SDXL. */

import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import { PromptError } from "../../../pipeline/errors.ts";
import {
  StableDiffusionXLModelEditingPipeline,
  type XLEditingGenerateOptions,
} from "../../../pipeline/model_editing_xl.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens, referenceFolder } from "../../paths.ts";

type Pipe = StableDiffusionXLModelEditingPipeline;

const open = (gpu: Gpu): Promise<Pipe> =>
  StableDiffusionXLModelEditingPipeline.fromPretrained(`${goldens}/sdxl-mini`, { gpu });

const settings = { numInferenceSteps: 2, height: 32, width: 32, generator: 3, outputType: "array" } as const;

const draw = async (pipe: Pipe, prompt: string, options: XLEditingGenerateOptions<"array"> = {}) =>
  (await pipe.generate(prompt, { ...settings, promptSyntax: "a1111", ...options })).images;

const words = (count: number, word: string) => Array(count).fill(word).join(" ");

/** One chunk's states by definition, in f64 on the host, and its pooled embedding. */
async function chunk(pipe: Pipe, part: 0 | 1, text: string, weightOf: Readonly<Record<number, number>> = {}) {
  const [tokenizer, encoder] = part === 0
    ? [pipe.tokenizer, pipe.textEncoder] as const
    : [pipe.tokenizer2, pipe.textEncoder2] as const;
  const ids = tokenizer.encode(text, { padding: "max_length" });
  assertEquals(ids.length, 77);
  const outputs = encoder.forward([ids], { clipSkip: 1, finalNorm: false });
  using held = new DisposableStack();
  for (const tensor of Object.values(outputs)) held.use(tensor);
  const width = encoder.config.hiddenSize;
  const plain = Float64Array.from(await outputs.lastHiddenState.data());
  const weighted = plain.map((value, i) => value * (weightOf[Math.floor(i / width)] ?? 1));
  const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0);
  const ratio = sum(plain) / sum(weighted);
  const states = weighted.map((value) => value * ratio);
  const pooled = "textEmbeds" in outputs ? [...await outputs.textEmbeds.data()] : [];
  return { rows: Array.from({ length: 77 }, (_, row) => states.subarray(row * width, (row + 1) * width)), pooled };
}

gpuTest("SDXL weights the states of each encoder by itself, chunk by chunk, and pools the first chunk", async (gpu) => {
  using pipe = await open(gpu);
  const roses = `a (red:1.4) rose, ${words(80, "blue")} [vase]`;
  const encoded = await pipe.encodePrompt([roses, "a rose BREAK a cat"], {
    promptSyntax: "a1111",
    prompt2: [roses, "the (vase:0.5)"],
    negativePrompt: "(blurry:0.5)",
  });
  using held = new DisposableStack();
  for (const tensor of Object.values(encoded)) held.use(tensor);
  const { promptEmbeds, negativePromptEmbeds, pooledPromptEmbeds, negativePooledPromptEmbeds } = encoded;
  assertEquals([promptEmbeds.shape, negativePromptEmbeds!.shape], [[2, 2 * 77, 80], [2, 2 * 77, 80]]);
  const weightsOf = (word: string, weight: number) =>
    Object.fromEntries(pipe.tokenizer.tokens(word).map((_, i) => [i + 1, weight]));
  type Chunk = readonly [text: string, weights?: Readonly<Record<number, number>>];
  const expected = async (first: readonly Chunk[], second: readonly Chunk[]) => {
    const states: number[] = [], pooled: number[][] = [];
    for (const [i, [text, weights]] of first.entries()) {
      const one = await chunk(pipe, 0, text, weights), two = await chunk(pipe, 1, ...second[i]);
      one.rows.forEach((row, at) => states.push(...row, ...two.rows[at]));
      pooled.push(two.pooled);
    }
    return { states, pooled: pooled[0] };
  };
  // a red rose , 71 blue | 9 blue vase
  const long: Chunk[] = [[`a red rose, ${words(71, "blue")}`, { 2: 1.4 }], [`${words(9, "blue")} vase`, {
    10: 1 / 1.1,
  }]];
  const rows = [
    await expected(long, long),
    await expected([["a rose"], ["a cat"]], [["the vase", { 2: 0.5 }], [""]]),
  ];
  const away = await expected([["blurry", weightsOf("blurry", 0.5)], [""]], [["blurry", weightsOf("blurry", 0.5)], [
    "",
  ]]);
  assertClose(await promptEmbeds.data(), rows.flatMap(({ states }) => states), 1e-5, "states");
  assertClose(await pooledPromptEmbeds.data(), rows.flatMap(({ pooled }) => pooled), 1e-5, "pooled");
  assertClose(await negativePromptEmbeds!.data(), [...away.states, ...away.states], 1e-5, "negative");
  assertClose(await negativePooledPromptEmbeds!.data(), [...away.pooled, ...away.pooled], 1e-5, "negative pooled");
});

gpuTest("SDXL draws plain prompts alike in both syntaxes, and weighted ones as their embeddings", async (gpu) => {
  using pipe = await open(gpu);
  assertEquals(await draw(pipe, "a rose, a cat"), await draw(pipe, "a rose, a cat", { promptSyntax: "plain" }));
  const prompt = `a (red:1.4) rose, ${words(80, "blue")}`;
  const encoded = await pipe.encodePrompt(prompt, { promptSyntax: "a1111" });
  using held = new DisposableStack();
  for (const tensor of Object.values(encoded)) held.use(tensor);
  const drawn = await draw(pipe, prompt);
  assertEquals(drawn, (await pipe.generate(undefined, { ...settings, ...encoded })).images);
  assertNotEquals(drawn, await draw(pipe, prompt.replace("(red:1.4)", "red")));
  await pipe.editModel("A pack of roses", "A pack of blue roses");
  assertNotEquals(await draw(pipe, prompt), drawn); // each row of each chunk is edited
});

gpuTest("LoRA tags in prompts of SDXL draw what loaded LoRAs draw, in their call alone", async (gpu) => {
  using pipe = await open(gpu);
  const file = `${referenceFolder}/sdxl_adapters/kohya.safetensors`;
  const plain = await draw(pipe, "a rose");
  await pipe.loadLoraWeights(file, { name: "ink", weight: 0.6 });
  const loaded = await draw(pipe, "a rose ");
  pipe.unloadLoraWeights();
  assertNotEquals(loaded, plain);
  const loraDir = (name: string) => (assertEquals(name, "ink"), file);
  assertClose(await draw(pipe, "a rose <lora:ink:0.6>", { loraDir }), loaded, 1e-6);
  assertEquals([pipe.loras.size, await draw(pipe, "a rose")], [0, plain]);
  const refused = (prompt: string, options: XLEditingGenerateOptions<"array">, message: string) =>
    assertRejects(() => draw(pipe, prompt, options), PromptError, message);
  await refused("a <lora:ink>", {}, "no folder of LoRAs is given");
  await refused("a", { prompt2: "b <lora:ink>", loraDir }, "name them in the prompt");
  await refused("a", { negativePrompt: "<lora:ink>", loraDir }, "name them in the prompt");
  await assertRejects(() => pipe.encodePrompt("<lora:ink>", { promptSyntax: "a1111" }), PromptError, "only encoded");
});
