/** Adapter files that disagree with themselves, or are made to take long. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { inspectLora } from "../../../pipeline/adapters/inspect_lora.ts";
import { loadTextualInversions, unloadTextualInversion } from "../../../pipeline/adapters/added_tokens.ts";
import { LoraConfig } from "../../../pipeline/adapters/lora_scale.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { AdapterError, OptionError, PromptError } from "../../../pipeline/errors.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { CLIPTokenizer } from "../../../pipeline/text/tokenizer.ts";
import { gpuTest } from "../../gpu.ts";
import { type FileTensor, golden, memoryFile } from "./sd1_mini.ts";

const filled = (shape: number[], value = 0.01): FileTensor => ({
  shape,
  data: new Float32Array(shape.reduce((product, length) => product * length, 1)).fill(value),
});
/** Layers [16, 16] and [16, 48] of sd1-mini. */
const square = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
const wide = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k";

type Tensors = Record<string, FileTensor>;
const named = (prefix: string, tensors: Tensors): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [`${prefix}${name}`, tensor]));
const pair = { ".lora_A.weight": filled([2, 48]), ".lora_B.weight": filled([16, 2]) };
const loha = { w2_a: filled([16, 2]), w2_b: filled([2, 16]) };

const cases: readonly [what: string, tensors: Tensors, says: string][] = [
  ["LoHa of rank 0", named(`${square}.hada_`, { w1_a: filled([16, 0]), w1_b: filled([0, 16]), ...loha }), "rank"],
  [
    "LoHa with a factor of three axes",
    named(`${square}.hada_`, { w1_a: filled([16, 2, 3]), w1_b: filled([2, 16]), ...loha }),
    "must be matrices: [16, 2, 3]",
  ],
  [
    "LoHa beyond f32",
    named(`${square}.hada_`, {
      w1_a: filled([16, 8], 1e38),
      w1_b: filled([8, 16], 1e38),
      w2_a: filled([16, 8], 1e38),
      w2_b: filled([8, 16], 1e38),
    }),
    "not finite",
  ],
  [
    "LoKr whose second pair disagrees",
    named(`${square}.lokr_`, { w1: filled([2, 2]), w2_a: filled([8, 3]), w2_b: filled([2, 8]) }),
    "[8, 3] and [2, 8]",
  ],
  [
    "LoKr whose first pair disagrees",
    named(`${square}.lokr_`, { w1_a: filled([2, 5]), w1_b: filled([1, 2]), w2: filled([8, 8]) }),
    "[2, 5] and [1, 2]",
  ],
  ["LoKr of three axes", named(`${square}.lokr_`, { w1: filled([2, 2, 4]), w2: filled([8, 8]) }), "[2, 2, 4]"],
  [
    "PEFT's magnitudes for inputs",
    { ...named(wide, pair), [`${wide}.lora_magnitude_vector`]: filled([48]) },
    "16 outputs: [48]",
  ],
  ["magnitudes of two axes", { ...named(wide, pair), [`${wide}.dora_scale`]: filled([4, 4]) }, "[4, 4]"],
  [
    "magnitudes twice",
    { ...named(wide, pair), [`${wide}.dora_scale`]: filled([16, 1]), [`${wide}.lora_magnitude_vector`]: filled([16]) },
    "twice",
  ],
  [
    "gains for the other axis",
    {
      [`${wide.replace("unet.", "lora_unet_").replaceAll(".", "_")}.weight`]: filled([16]),
      [`${wide.replace("unet.", "lora_unet_").replaceAll(".", "_")}.on_input`]: filled([1], 1),
    },
    "16 gains are for 48 inputs",
  ],
  [
    "an alpha beyond f32",
    { ...named(wide, pair), [`${wide}.alpha`]: { shape: [], data: Float64Array.of(1e300), dtype: "F64" } },
    "alpha is not a finite number of f32",
  ],
  [
    "a rank beyond all bounds",
    named(wide, { ".lora_A.weight": filled([8193, 48]), ".lora_B.weight": filled([16, 8193]) }),
    "from 1 to 8192: 8193",
  ],
];

gpuTest("tensors of a LoRA that do not belong together are named, and nothing is loaded", async (gpu) => {
  using pipe = await StableDiffusionPipeline.fromPretrained(golden("sd1-mini"), { gpu });
  for (const [what, tensors, says] of cases) {
    const error = await assertRejects(
      async () => await pipe.loadLoraWeights(await memoryFile("a.safetensors", tensors)),
      AdapterError,
      says,
      what,
    );
    assert(error.message.includes("attn"), error.message);
    assertEquals(pipe.loras.size, 0, what);
  }
  for (const source of [null, 5, {}, new Uint8Array(5)]) {
    await assertRejects(() => pipe.loadLoraWeights(source as never), OptionError, "a source must be");
  }
});

Deno.test("keys of a LoRA are escaped, cut and counted in linear work", async () => {
  const hostile = {
    "\x1b[2J\nERROR.lora_A.weight": filled([0, 1]),
    [`${"long".repeat(10_000)}.lora_A.weight`]: filled([0, 1]),
    ...Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`x${i}.lora_A.weight`, filled([0, 1])])),
  };
  using file = await SafetensorsFile.open(await memoryFile("a.safetensors", hostile));
  const { problems: [problem] } = await inspectLora(file);
  assert(problem.includes(String.raw`  \x1b[2J\nERROR.lora_A.weight` + "\n"), problem.slice(0, 300));
  assert(problem.includes("29999 more that differ in numbers"), problem.slice(-300));
  assert(problem.length < 1000, String(problem.length));
});

Deno.test("an adapter's configuration has the types and the patterns that PEFT writes", () => {
  const refused: readonly [json: unknown, says: string][] = [
    [{ peft_type: { toString: 1 } }, "peft_type must be one of LORA, LOHA, LOKR"],
    [{ peft_type: ["LORA"] }, "peft_type must be"],
    [{ r: 2.5 }, "r must be a whole number"],
    [{ r: 1e9 }, "r must be a whole number from 1 to 8192"],
    [{ lora_alpha: Infinity }, "lora_alpha must be a finite number"],
    [{ use_rslora: "true" }, "use_rslora must be true or false"],
    [{ rank_pattern: { a: null } }, "rank_pattern.a must be"],
    [{ alpha_pattern: { "(([a-z.]+)+)+Z": 1 } }, "too complex"],
    [{ alpha_pattern: { ".*.*.*Z": 1 } }, "too complex"],
    [{ alpha_pattern: { "(a|a)(a|a)(a|a)(a|a)(a|a)Z": 1 } }, "too complex"],
    [{ alpha_pattern: { "(?=a)b": 1 } }, "too complex"],
    [{ alpha_pattern: { "[": 1 } }, "not a regular expression"],
    [{ alpha_pattern: Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`x${i}`, 1])) }, "at most 4096"],
  ];
  for (const [json, says] of refused) {
    assertThrows(() => new LoraConfig(json, "adapter_config.json"), AdapterError, says);
  }
  const huge = new LoraConfig({ lora_alpha: 1e300 }, "adapter_config.json");
  assertThrows(() => huge.scale("to_q", 1), AdapterError, "too large");
});

gpuTest(
  "thousands of tokens are taught and forgotten in linear work; their number and length are bounded",
  async (gpu) => {
    using pipe = await StableDiffusionPipeline.fromPretrained(golden("sd1-mini"), { gpu });
    const { tokenizer } = pipe, size = tokenizer.size;
    const many = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`<t${i}>`, filled([48])]));
    await loadTextualInversions(pipe, [await memoryFile("many.safetensors", many)]);
    assertEquals(
      tokenizer.encode("<t5><t19999>").slice(1, -1),
      ["<t5>", "<t19999>"].map((token) => tokenizer.idOf(token)!),
    );
    assertEquals(tokenizer.size, size + 20_000);
    unloadTextualInversion(pipe);
    assertEquals([tokenizer.size, pipe.textEncoder.addedTokens.size], [size, 0]);
    const wide = await memoryFile("a.safetensors", { "\x1b[31m": filled([1 << 17, 48]) });
    await assertRejects(() => pipe.loadTextualInversion(wide), AdapterError, String.raw`65536 vectors at most`);
    const long = await memoryFile("a.safetensors", { ["x".repeat(1001)]: filled([48]) });
    await assertRejects(() => pipe.loadTextualInversion(long), PromptError, "1 to 1000 characters");
  },
);

Deno.test("tokens are texts, ids are ids, and vectors are counted before they are named", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(golden("sd1-mini/tokenizer"));
  for (const text of [null, 5, {}, ["a"]]) {
    assertThrows(() => tokenizer.encode(text as never), PromptError, "must be a string");
    assertThrows(() => tokenizer.addToken(text as never), PromptError, "must be a text");
  }
  for (const ids of [null, 5, [NaN], ["1"]]) assertThrows(() => tokenizer.decode(ids as never), PromptError);
  for (const vectors of [0, -1, 1.5, 1e9, NaN, "2"]) {
    assertThrows(() => tokenizer.addToken("<x>", { vectors: vectors as never }), PromptError, "its vectors must be");
  }
});
