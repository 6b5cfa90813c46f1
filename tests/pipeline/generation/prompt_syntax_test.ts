import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import type { Tensor } from "../../../engine/tensor.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { type AdapterError, PromptError } from "../../../pipeline/errors.ts";
import { type EditingGenerateOptions, StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { parseAttention } from "../../../pipeline/text/prompt_syntax/attention.ts";
import { chunkPrompt } from "../../../pipeline/text/prompt_syntax/chunks.ts";
import { CLIPTokenizer } from "../../../pipeline/text/tokenizer.ts";
import { assertClose, gpuTest } from "../../gpu.ts";

const goldens = `${import.meta.dirname}/../../goldens`;
const lora = `${goldens}/lora_kohya.safetensors`;

type Pipe = StableDiffusionModelEditingPipeline;

const open = (gpu: Gpu, model = "sd1-mini"): Promise<Pipe> =>
  StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/${model}`, { gpu });

const draw = async (pipe: Pipe, prompt: string, options: EditingGenerateOptions<"array"> = {}) =>
  (await pipe.generate(prompt, {
    numInferenceSteps: 2,
    generator: 3,
    outputType: "array",
    promptSyntax: "a1111",
    ...options,
  })).images;

/** Collects warnings while `body` runs. */
async function warningsOf(body: () => Promise<unknown>): Promise<string[]> {
  const warnings: string[] = [];
  const { warn } = console;
  console.warn = (message: string) => warnings.push(message);
  try {
    await body();
  } finally {
    console.warn = warn;
  }
  return warnings;
}

const words = (count: number, word = "rose") => Array(count).fill(word).join(" ");

for (const model of ["sd1-mini", "sd2-mini"]) {
  Deno.test(`${model}: chunks hold 75 tokens and end after a comma within the last 20`, async () => {
    const tokenizer = await CLIPTokenizer.fromPretrained(`${goldens}/${model}/tokenizer`);
    const { bosTokenId, eosTokenId, padTokenId } = tokenizer;
    const [rose] = tokenizer.encode("rose").slice(1), [comma] = tokenizer.encode(",").slice(1);
    const texts = (prompt: string) =>
      chunkPrompt(parseAttention(prompt), tokenizer).map(({ ids, weights }) => {
        assertEquals([ids.length, weights.length], [77, 77]);
        const end = ids.indexOf(eosTokenId);
        assertEquals(ids[0], bosTokenId);
        assertEquals(ids.slice(end + 1), Array(76 - end).fill(padTokenId));
        assertEquals(weights.slice(end), Array(77 - end).fill(1));
        return ids.slice(1, end);
      });
    const roses = (count: number) => Array(count).fill(rose);
    assertEquals(texts(""), [[]]);
    assertEquals(texts(words(75)), [roses(75)]);
    assertEquals(texts(words(76)), [roses(75), [rose]]);
    assertEquals(texts(words(160)), [roses(75), roses(75), roses(10)]);
    // the comma is token 60 of the chunk: 14 tokens behind it move
    assertEquals(texts(`${words(60)}, ${words(20)}`), [[...roses(60), comma], roses(20)]);
    // 20 tokens back still counts, 21 do not
    assertEquals(texts(`${words(55)}, ${words(30)}`), [[...roses(55), comma], roses(30)]);
    assertEquals(texts(`${words(54)}, ${words(30)}`), [[...roses(54), comma, ...roses(20)], roses(10)]);
    assertEquals(texts(`${words(75)}, ${words(3)}`), [roses(75), [comma, ...roses(3)]]);
    assertEquals(texts(`${words(2)} BREAK ${words(3)}`), [roses(2), roses(3)]);
    assertEquals(texts(`BREAK ${words(3)} BREAK`), [[], roses(3)]);
    tokenizer.addToken("<swirl>", { vectors: 4 });
    const swirl = tokenizer.encode("<swirl>").slice(1, -1);
    assertEquals(swirl.length, 4);
    assertEquals(texts(`${words(71)} <swirl> rose`), [[...roses(71), ...swirl], [rose]]);
    assertEquals(texts(`${words(73)} <swirl> rose`), [roses(73), [...swirl, rose]]);
  });
}

gpuTest("states of weighted and long prompts: each chunk encoded, weighted, its mean restored", async (gpu) => {
  using pipe = await open(gpu);
  const long = `a (red:1.4) rose, ${words(80, "blue")} [vase] BREAK a cat`;
  const { promptEmbeds, negativePromptEmbeds } = await pipe.encodePrompt([long, "a rose"], {
    promptSyntax: "a1111",
    negativePrompt: "(blurry:0.5)",
  });
  using positive = promptEmbeds;
  using negative = negativePromptEmbeds!;
  // a red rose , 71 blue | 9 blue vase | a cat
  assertEquals(positive.shape, [2, 3 * 77, 48]);
  assertEquals(negative.shape, positive.shape);

  /** By definition, in f64 on the host. */
  const state = async (text: string, weightOf: Record<number, number> = {}) => {
    const ids = pipe.tokenizer.encode(text, { padding: "max_length" });
    assertEquals(ids.length, 77);
    const { lastHiddenState, poolerOutput } = pipe.textEncoder.forward([ids]);
    using states = lastHiddenState;
    using _pooled = poolerOutput;
    const plain = Float64Array.from(await states.data());
    const weighted = plain.map((value, i) => value * (weightOf[Math.floor(i / 48)] ?? 1));
    const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0);
    const ratio = sum(plain) / sum(weighted);
    return weighted.map((value) => value * ratio);
  };
  const empty = await state("");
  const expected = [
    ...await state(`a red rose, ${words(71, "blue")}`, { 2: 1.4 }),
    ...await state(`${words(9, "blue")} vase`, { 10: 1 / 1.1 }),
    ...await state("a cat"),
    ...await state("a rose"),
    ...empty,
    ...empty,
  ];
  assertClose(await positive.data(), expected, 1e-5);
  const blurry = pipe.tokenizer.tokens("blurry").length;
  const weights = Object.fromEntries(Array.from({ length: blurry }, (_, i) => [i + 1, 0.5]));
  const away = [...await state("blurry", weights), ...empty, ...empty];
  assertClose(await negative.data(), [...away, ...away], 1e-5, "negative");
});

gpuTest("a prompt without syntax draws the same bytes in both; with it, what its embeddings draw", async (gpu) => {
  using pipe = await open(gpu);
  assertEquals(await draw(pipe, "a rose, a cat"), await draw(pipe, "a rose, a cat", { promptSyntax: "plain" }));
  const prompt = `a (red:1.4) rose, ${words(80, "blue")}`;
  using edit = await ModelEdit.solve([{ source: "A pack of roses", destination: "A pack of blue roses" }], {}, pipe);
  const { promptEmbeds, negativePromptEmbeds } = await pipe.encodePrompt(prompt, { promptSyntax: "a1111" });
  using positive = promptEmbeds;
  using negative = negativePromptEmbeds!;
  // An edit is one matrix for all rows: it acts on each row of each chunk.
  using edited = edit.operator.apply(positive);
  using editedNegative = edit.operator.apply(negative);
  const from = async (promptEmbeds: Tensor, negativePromptEmbeds: Tensor) =>
    (await pipe.generate({
      promptEmbeds,
      negativePromptEmbeds,
      numInferenceSteps: 2,
      generator: 3,
      outputType: "array",
    }))
      .images;
  assertEquals(await draw(pipe, prompt), await from(positive, negative));
  const byEmbeddings = await from(edited, editedNegative);
  pipe.edits.push(edit);
  assertClose(await draw(pipe, prompt), byEmbeddings, 1e-5);
});

gpuTest("LoRA tags draw what loaded LoRAs draw, in their call alone", async (gpu) => {
  using pipe = await open(gpu);
  const directory = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${directory}/styles`);
    await Deno.copyFile(lora, `${directory}/styles/ink.safetensors`);
    await Deno.writeTextFile(`${directory}/broken.safetensors`, "no such file");
    const plain = await draw(pipe, "a rose");
    await pipe.loadLoraWeights(lora, { name: "ink", weight: 0.6 });
    const loaded = await draw(pipe, "a rose ");
    pipe.unloadLoraWeights();
    assertEquals(await draw(pipe, "a rose"), plain);
    const live = gpu.memory.live; // with what is kept for the next call of "a rose"
    const running = draw(pipe, "a rose <lora:ink:0.6>", { loraDir: directory });
    assertEquals(await draw(pipe, "a rose"), plain, "a call beside it");
    assertClose(await running, loaded, 1e-6);
    assertEquals(pipe.loras.size, 0);
    assertEquals(await draw(pipe, "a rose"), plain, "the next call");
    assertEquals(gpu.memory.live, live);
    const byFunction = await draw(pipe, "a rose <lora:x:0.6>", { loraDir: (name) => (assertEquals(name, "x"), lora) });
    assertClose(byFunction, loaded, 1e-6);

    const refused = (prompt: string, options: object, type: typeof PromptError | typeof AdapterError, text: string) =>
      assertRejects(() => draw(pipe, prompt, options), type, text);
    await refused("a <lora:ink>", {}, PromptError, "no folder of LoRAs is given");
    await refused("a <lora:inc>", { loraDir: directory }, PromptError, 'did you mean "ink"?');
    await refused("a", { negativePrompt: "<lora:ink>", loraDir: directory }, PromptError, "name them in the prompt");
    await assertRejects(
      () => pipe.generate(["a <lora:ink>", "b"], { promptSyntax: "a1111", loraDir: directory }),
      PromptError,
      "different LoRAs in one call",
    );
    await assertRejects(() => draw(pipe, "a <lora:broken>", { loraDir: directory }), Error);
    await assertRejects(
      () => pipe.encodePrompt("a <lora:ink>", { promptSyntax: "a1111" }),
      PromptError,
      "only encoded",
    );
    assertEquals(await draw(pipe, "a rose"), plain);
    assertEquals([pipe.loras.size, gpu.memory.live], [0, live]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

gpuTest("plain prompts in another syntax are pointed out once for each kind, and read as text", async (gpu) => {
  using pipe = await open(gpu);
  const plain = { promptSyntax: "plain" } as const;
  const warnings = await warningsOf(async () => {
    const weighted = await draw(pipe, "a (red:1.3) rose", plain);
    assertNotEquals(weighted, await draw(pipe, "a (red:1.3) rose"));
    await draw(pipe, "a (blue:1.2) rose", plain);
    await draw(pipe, "a <lora:ink:0.8> rose", plain);
    await draw(pipe, "a rose (in a vase): red", plain);
  });
  assertEquals(warnings.length, 2);
  assert(warnings[0].includes('"(red:1.3)", which weights words in A1111\'s syntax'), warnings[0]);
  assert(warnings[1].includes('"<lora:ink:0.8>", which loads an adapter'), warnings[1]);
  const cut = `${words(80)} lemon`;
  const long = await warningsOf(async () => {
    await draw(pipe, cut, plain);
    await draw(pipe, cut, { ...plain, generator: 4 });
    await draw(pipe, cut);
  });
  assertEquals(long.length, 1);
  assert(long[0].includes(`"${words(5)} lemon"`), long[0]);
});
