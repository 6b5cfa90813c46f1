import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { matmul } from "../../../kernels/gemm/matmul.ts";
import { AdapterError, PromptError } from "../../../pipeline/errors.ts";
import { type ByteSource, bytesSource } from "../../../pipeline/checkpoint/source/byte_source.ts";
import { memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { writeSafetensors } from "../../../pipeline/checkpoint/safetensors/writer.ts";
import type { EmbeddingsEdit } from "../../../pipeline/generation/call.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { DDIMScheduler, TorchGenerator } from "../../../schedulers/mod.ts";
import { type GoldenTensor, loadGoldens } from "../../goldens.ts";
import { assertClose, f32Tolerance, gpuTest, randomArray } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

/** Largest relative error of latents with adapters against the goldens. */
const tolerance = 2e-4;

const golden = (path: string) => `${goldens}/${path}`;
const upload = (gpu: Gpu, { data, shape }: GoldenTensor) => Tensor.from(gpu, Float32Array.from(data), shape);

/** sd1-mini with the settings of the adapters' goldens, and a function that generates. */
async function openGoldens(gpu: Gpu) {
  const { tensors, note } = await loadGoldens("adapters");
  const mini = await loadGoldens("sd1-mini");
  const pipe = await StableDiffusionPipeline.fromPretrained(golden("sd1-mini"), { gpu });
  pipe.scheduler = DDIMScheduler.fromConfig(pipe.scheduler.config, { clip_sample: false, set_alpha_to_one: false });
  const draw = async (
    options: { prompts?: string[]; scale?: number; steps?: number; on?: StableDiffusionPipeline } = {},
  ): Promise<Float32Array> => {
    using latents = upload(gpu, mini.tensors.get("pipe.latents")!);
    const { images } = await (options.on ?? pipe).generate(options.prompts ?? note.prompts, {
      latents,
      numInferenceSteps: options.steps ?? note.steps,
      guidanceScale: note.guidance,
      outputType: "latent",
      crossAttentionKwargs: options.scale === undefined ? undefined : { scale: options.scale },
    });
    using result = images;
    return await result.data();
  };
  return { tensors, note, pipe, draw };
}

/** A safetensors file in memory. */
async function file(
  name: string,
  tensors: Record<string, { shape: number[]; data: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> }>,
): Promise<ByteSource> {
  const parts: Uint8Array[] = [];
  const entries = Object.entries(tensors).map(([name, { shape, data }]) => ({
    name,
    shape,
    dtype: data instanceof Uint16Array ? "F16" as const : "F32" as const,
    chunks: () => [new Uint8Array(data.buffer)],
  }));
  await writeSafetensors(entries, (chunk) => {
    parts.push(chunk.slice());
  });
  return bytesSource(new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer()), name);
}

const random = (shape: number[], seed: number) => ({
  shape,
  data: randomArray(shape.reduce((product, length) => product * length, 1), seed).map((value) => value / 4),
});

for (const name of ["lora_diffusers", "lora_kohya"]) {
  gpuTest(`${name} draws the golden latents whole and at half its scale, and leaves no trace`, async (gpu) => {
    const { tensors, pipe, draw } = await openGoldens(gpu);
    using _pipe = pipe;
    const untouched = await draw();
    assertClose(untouched, tensors.get("plain.latent")!.data, tolerance, "plain");
    const before = gpu.memory.live;
    assertEquals(await pipe.loadLoraWeights(golden(`${name}.safetensors`)), name);
    const whole = await draw();
    assertClose(whole, tensors.get(`${name}.latent`)!.data, tolerance, "whole");
    assertClose(await draw({ scale: 0.5 }), tensors.get(`${name}.scale_0.5.latent`)!.data, tolerance, "half");
    assertEquals(await draw(), whole, "a call's scale ends with the call");
    assertEquals(await draw({ scale: 0 }), untouched, "scale 0 is no LoRA");
    pipe.unloadLoraWeights();
    assertEquals(await draw(), untouched, "unloaded");
    assertEquals(gpu.memory.live, before);
  });
}

gpuTest("several LoRAs add up by weight: one LoRA loaded twice at weight 0.5 equals it at weight 1", async (gpu) => {
  const { tensors, pipe, draw } = await openGoldens(gpu);
  using _pipe = pipe;
  const path = golden("lora_kohya.safetensors");
  await pipe.loadLoraWeights(path, { name: "one", weight: 0.25 });
  await pipe.loadLoraWeights(path, { name: "other", weight: 0.75 });
  assertEquals([...pipe.loras], [["one", 0.25], ["other", 0.75]]);
  const whole = tensors.get("lora_kohya.latent")!.data, half = tensors.get("lora_kohya.scale_0.5.latent")!.data;
  assertClose(await draw(), whole, tolerance, "a quarter and three");
  assertClose(await draw({ scale: 0.5 }), half, tolerance, "at half the scale");
  pipe.setAdapters("one", 0.5);
  assertClose(await draw(), half, tolerance, "one of them at half its weight");
  pipe.setAdapters(["other", "one"], [0.1, 0.4]);
  assertClose(await draw(), half, tolerance, "a tenth and four");
  pipe.unloadLoraWeights("other");
  pipe.setAdapters("one");
  assertClose(await draw(), whole, tolerance, "one alone");
  assertEquals([...pipe.loras.keys()], ["one"]);
  await assertRejects(() => pipe.loadLoraWeights(path, { name: "one" }), AdapterError, '"one"');
  assertThrows(() => pipe.unloadLoraWeights("third"), RangeError, "loaded are one");
  assertThrows(() => pipe.setAdapters(["one", "third"]), RangeError, '"third"');
  assertThrows(() => pipe.setAdapters(["one"], [1, 2]), RangeError, "2 weights");
  await assertRejects(() => pipe.loadLoraWeights(path, { weight: NaN }), RangeError, "NaN");
  await assertRejects(() => draw({ scale: Infinity }), RangeError, "crossAttentionKwargs.scale");
  pipe.unloadLoraWeights();
});

gpuTest("concurrent calls use their own LoRA scales", async (gpu) => {
  const { pipe, draw } = await openGoldens(gpu);
  using _pipe = pipe;
  await pipe.loadLoraWeights(golden("lora_diffusers.safetensors"));
  const scales = [0.5, 1, 0];
  const alone: Float32Array[] = [];
  for (const scale of scales) alone.push(await draw({ scale, steps: 2 }));
  assertEquals(await Promise.all(scales.map((scale) => draw({ scale, steps: 2 }))), alone);
});

gpuTest("encodePrompt's loraScale scales the text encoder's LoRA", async (gpu) => {
  const { pipe } = await openGoldens(gpu);
  using _pipe = pipe;
  const encode = async (loraScale?: number) => {
    const { promptEmbeds } = await pipe.encodePrompt("a rose", { loraScale, doClassifierFreeGuidance: false });
    using embeds = promptEmbeds;
    return await embeds.data();
  };
  const plain = await encode();
  await pipe.loadLoraWeights(golden("lora_kohya.safetensors"));
  const whole = await encode(), half = await encode(0.5);
  assertEquals(await encode(0), plain);
  assertEquals(await encode(1), whole);
  pipe.setAdapters("lora_kohya", 0.5);
  assertEquals(await encode(), half);
  const moved = Math.hypot(...whole.map((value, i) => value - plain[i]));
  const halfway = Math.hypot(...half.map((value, i) => value - plain[i]));
  assert(halfway > 0.2 * moved && halfway < 0.8 * moved, `${halfway} of ${moved}`);
});

/** Layers of every kind, with the trainers' spellings of their keys. */
const everyKind = [
  { path: "time_embedding.linear_1", down: [3, 16], up: [64, 3] },
  { path: "conv_in", down: [3, 4, 3, 3], up: [16, 3, 1, 1] },
  { path: "down_blocks.0.downsamplers.0.conv", down: [3, 16, 3, 3], up: [16, 3, 1, 1] }, // stride 2
  { path: "down_blocks.1.resnets.0.conv_shortcut", down: [2, 16, 1, 1], up: [32, 2, 1, 1] },
  { path: "down_blocks.1.resnets.0.conv1", down: [2, 16, 3, 3], up: [32, 2] }, // has a channel bias
  // has a residual
  { path: "down_blocks.1.resnets.0.conv2", down: [5, 32, 3, 3], up: [32, 5, 1, 1] },
  { path: "down_blocks.1.resnets.0.time_emb_proj", down: [4, 64], up: [32, 4] },
  { path: "mid_block.attentions.0.proj_in", down: [3, 48, 1, 1], up: [48, 3, 1, 1] },
  { path: "mid_block.attentions.0.proj_out", down: [3, 48], up: [48, 3] },
  { path: "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj", down: [4, 32], up: [256, 4] },
  { path: "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.2", down: [4, 128], up: [32, 4] },
  { path: "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0", down: [4, 32], up: [32, 4] },
  // upsampled first
  { path: "up_blocks.0.upsamplers.0.conv", down: [3, 48, 3, 3], up: [48, 3, 1, 1] },
];
const textKinds = [
  { path: "text_model.encoder.layers.0.mlp.fc1", down: [3, 48], up: [144, 3] }, // activated
  { path: "text_model.encoder.layers.0.mlp.fc2", down: [3, 144], up: [48, 3] },
  { path: "text_model.encoder.layers.1.self_attn.q_proj", down: [3, 48], up: [48, 3] },
];
const alpha = 2;

/** up · down as a weight of the layer's shape, times α / rank. */
function product(down: { shape: number[]; data: Float32Array }, up: { shape: number[]; data: Float32Array }) {
  const [rank, ...inside] = down.shape, out = up.shape[0];
  const width = inside.reduce((a, b) => a * b, 1);
  const delta = new Float32Array(out * width);
  for (let o = 0; o < out; o++) {
    for (let i = 0; i < width; i++) {
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += up.data[o * rank + r] * down.data[r * width + i];
      delta[o * width + i] = alpha / rank * sum;
    }
  }
  return delta;
}

gpuTest("an update of any layer acts as its product added to the weight, in all key formats", async (gpu) => {
  const { pipe, draw } = await openGoldens(gpu);
  using _pipe = pipe;
  const updates = [
    ...everyKind.map((kind) => ({ ...kind, kohya: "lora_unet_", dotted: "unet." })),
    ...textKinds.map((kind) => ({ ...kind, kohya: "lora_te_", dotted: "text_encoder." })),
  ].map(({ down, up, ...rest }, i) => ({ ...rest, down: random(down, 2 * i + 1), up: random(up, 2 * i + 2) }));
  const alphaTensor = { shape: [], data: Float32Array.of(alpha) };

  // The reference: weights with the products added to them.
  const merged = async (part: string, model: string, dotted: string) => {
    const bytes = await Deno.readFile(golden(`sd1-mini/${part}/${model}`));
    using weights = await SafetensorsFile.open(bytesSource(bytes, model));
    const tensors: Parameters<typeof file>[1] = {};
    for (const [key, { shape }] of weights.tensors) {
      tensors[key] = { shape: [...shape], data: await weights.float32(key) };
      const update = updates.find((update) => update.dotted === dotted && `${update.path}.weight` === key);
      if (update) product(update.down, update.up).forEach((value, i) => tensors[key].data[i] += value);
    }
    const source = await file(model, tensors);
    return {
      [`${part}/${model}`]: await source.read(0, source.size),
      [`${part}/config.json`]: await Deno.readFile(golden(`sd1-mini/${part}/config.json`)),
    };
  };
  const files: Record<string, Uint8Array<ArrayBuffer>> = {
    ...await merged("unet", "diffusion_pytorch_model.safetensors", "unet."),
    ...await merged("text_encoder", "model.safetensors", "text_encoder."),
  };
  for (
    const path of [
      "model_index.json",
      "scheduler/scheduler_config.json",
      "vae/config.json",
      "vae/diffusion_pytorch_model.safetensors",
      ...["vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"].map((f) => `tokenizer/${f}`),
    ]
  ) files[path] = await Deno.readFile(golden(`sd1-mini/${path}`));
  using reference = await StableDiffusionPipeline.fromPretrained(memoryTree(files, "merged"), { gpu });
  reference.scheduler = pipe.scheduler;
  const expected = await draw({ on: reference, steps: 2 });
  const plain = await draw({ steps: 2 });
  const moved = Math.hypot(...expected.map((value, i) => value - plain[i])) / Math.hypot(...plain);
  assert(moved > 0.1, `the updates must show: ${moved}`);

  const forms: Record<string, (u: typeof updates[number]) => [string, string, string]> = {
    kohya: ({ kohya, path }) => {
      const base = kohya + path.replaceAll(".", "_");
      return [`${base}.lora_down.weight`, `${base}.lora_up.weight`, `${base}.alpha`];
    },
    peft: ({ dotted, path }) => [
      `${dotted}${path}.lora_A.weight`,
      `${dotted}${path}.lora_B.weight`,
      `${dotted}${path}.alpha`,
    ],
    peftNamed: ({ path }) => [
      `base_model.model.${path}.lora_A.default.weight`,
      `base_model.model.${path}.lora_B.default.weight`,
      `base_model.model.${path}.alpha`,
    ],
    diffusers: ({ dotted, path }) => {
      const base = dotted + path + (dotted === "unet." ? ".lora" : ".lora_linear_layer");
      return [`${base}.down.weight`, `${base}.up.weight`, `${base}.alpha`];
    },
  };
  for (const [form, keysOf] of Object.entries(forms)) {
    const tensors: Parameters<typeof file>[1] = {};
    for (const update of updates) {
      const [down, up, alpha] = keysOf(update);
      Object.assign(tensors, { [down]: update.down, [up]: update.up, [alpha]: alphaTensor });
    }
    const name = await pipe.loadLoraWeights(await file(`${form}.safetensors`, tensors));
    assertClose(await draw({ steps: 2 }), expected, tolerance, form);
    pipe.unloadLoraWeights(name);
  }
  assertEquals(await draw({ steps: 2 }), plain);
});

gpuTest("keys of old attention processors name the same layers, and f16 files act as their f32 values", async (gpu) => {
  const { pipe, draw } = await openGoldens(gpu);
  using _pipe = pipe;
  const attention = "mid_block.attentions.0.transformer_blocks.0.attn2";
  const encoder = "text_model.encoder.layers.2.self_attn";
  const data = (rows: number, columns: number, seed: number) => {
    const half = Float16Array.from(random([rows, columns], seed).data);
    return { f16: new Uint16Array(half.buffer), f32: Float32Array.from(half) };
  };
  const [a, b] = [data(4, 48, 1), data(48, 4, 2)];
  const pair = (down: string, up: string, type: "f16" | "f32") => ({
    [down]: { shape: [4, 48], data: a[type] },
    [up]: { shape: [48, 4], data: b[type] },
  });
  const old = await file("old.safetensors", {
    ...pair(
      `unet.${attention}.processor.to_q_lora.down.weight`,
      `unet.${attention}.processor.to_q_lora.up.weight`,
      "f32",
    ),
    ...pair(
      `unet.${attention}.processor.to_out_lora.down.weight`,
      `unet.${attention}.processor.to_out_lora.up.weight`,
      "f32",
    ),
    ...pair(`text_encoder.${encoder}.to_k_lora.down.weight`, `text_encoder.${encoder}.to_k_lora.up.weight`, "f32"),
    ...pair(`text_encoder.${encoder}.to_out_lora.down.weight`, `text_encoder.${encoder}.to_out_lora.up.weight`, "f32"),
  });
  const kohya = (prefix: string, path: string) => {
    const base = prefix + path.replaceAll(".", "_");
    return pair(`${base}.lora_down.weight`, `${base}.lora_up.weight`, "f16");
  };
  const modern = await file("modern.safetensors", {
    ...kohya("lora_unet_", `${attention}.to_q`),
    ...kohya("lora_unet_", `${attention}.to_out.0`),
    ...kohya("lora_te1_", `${encoder}.k_proj`),
    ...kohya("lora_te1_", `${encoder}.out_proj`),
  });
  const plain = await draw({ steps: 1 });
  await pipe.loadLoraWeights(old);
  const drawn = await draw({ steps: 1 });
  pipe.unloadLoraWeights();
  await pipe.loadLoraWeights(modern);
  assertClose(await draw({ steps: 1 }), drawn, 1e-5, "f16");
  assert(Math.hypot(...drawn.map((value, i) => value - plain[i])) > 1e-2);
});

gpuTest("a LoRA that does not fit the model is rejected with its keys, and changes nothing", async (gpu) => {
  const { pipe, draw } = await openGoldens(gpu);
  using _pipe = pipe;
  const plain = await draw({ steps: 1 }), before = gpu.memory.live;
  const layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";
  const pair = (base: string, down: number[], up: number[]) => ({
    [`${base}.lora_down.weight`]: random(down, 1),
    [`${base}.lora_up.weight`]: random(up, 2),
  });
  const good = pair(layer, [4, 48], [48, 4]);
  const refused = async (tensors: Parameters<typeof file>[1], ...parts: string[]) => {
    const source = await file("bad.safetensors", tensors);
    const error = await assertRejects(() => pipe.loadLoraWeights(source), AdapterError);
    for (const part of parts) assert(error.message.includes(part), `${part} is not in: ${error.message}`);
    return error;
  };
  const stranger = await refused({ ...good, "lora_unet_conv_norm_out.oft_blocks": random([4], 1) }, "OFT");
  assertEquals(stranger.keys, ["lora_unet_conv_norm_out.oft_blocks"]);
  await refused({ ...good, "lora_unet_conv_norm_out.w_norm": random([4], 1) }, "must be [16]: [4]");
  await refused({ ...good, ...pair("lora_unet_mid_block_attentions_7_proj_in", [4, 48], [48, 4]) }, "attentions_7");
  await refused({ [`${layer}.lora_down.weight`]: random([4, 48], 1) }, "two factors", `${layer}.lora_down.weight`);
  await refused(pair(layer, [4, 48], [48, 5]), "down has 4, up has 5");
  await refused(pair(layer, [4, 768], [48, 4]), "768 (1.x) wide", "this model's are 48", "down must be [4, 48]");
  await refused(pair(layer, [4, 2048], [48, 4]), "2048 (XL) wide");
  await refused(pair(layer, [4, 48], [40, 4]), "up must be [48, 4]: [40, 4]");
  await refused(
    { ...pair("lora_unet_conv_in", [2, 4, 1, 1], [16, 2, 1, 1]) },
    "lora_unet_conv_in.lora_down.weight: down must be [2, 4, 3, 3]: [2, 4, 1, 1]",
  );
  await refused(
    { ...good, ...pair("lora_te2_text_model_encoder_layers_0_self_attn_k_proj", [4, 48], [48, 4]) },
    "Stable Diffusion XL",
    "lora_te2_",
  );
  await refused(
    pair("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_k", [4, 48], [48, 4]),
    "Stable Diffusion XL",
  );
  await refused({ "lora_unet_conv_in.hada_w1_a": random([4, 4], 1) }, "a whole form", "hada_w1_a");
  await refused({ "model.diffusion_model.out.2.weight": random([4, 4], 1) }, "It is a");
  await refused({ ...good, [`${layer}.alpha`]: random([2], 1) }, "alpha must be one number: [2]");
  await refused({ ...good, [`${layer}.alpha`]: { shape: [], data: Float32Array.of(NaN) } }, "alpha is not a finite");
  await refused({}, "no tensors");
  const dotted = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
  await refused(
    { ...good, [`${dotted}.lora_A.weight`]: random([4, 48], 1), [`${dotted}.lora.down.weight`]: random([4, 48], 1) },
    "twice",
    "lora_A.weight",
    "lora.down.weight",
  );
  await refused({ ...good, ...pair(dotted, [4, 48], [48, 4]) }, "twice");
  for (const path of ["model.bin", "model.pt", "model.ckpt"]) {
    await assertRejects(() => pipe.loadLoraWeights(path), AdapterError, "pickle");
  }
  assertEquals([...pipe.loras], []);
  assertEquals(gpu.memory.live, before);
  assertEquals(await draw({ steps: 1 }), plain);
});

gpuTest("in a folder, the LoRA file is the one with diffusers' name, the only one, or the one given", async (gpu) => {
  const { pipe } = await openGoldens(gpu);
  using _pipe = pipe;
  const bytes = await Deno.readFile(golden("lora_kohya.safetensors"));
  const load = async (files: string[], weightName?: string) => {
    const tree = memoryTree(Object.fromEntries(files.map((path) => [path, bytes])), "folder");
    const name = await pipe.loadLoraWeights(tree, { weightName });
    pipe.unloadLoraWeights(name);
    return name;
  };
  assertEquals(await load(["pytorch_lora_weights.safetensors", "other.safetensors"]), "pytorch_lora_weights");
  assertEquals(await load(["ink.safetensors", "README.md"]), "ink");
  assertEquals(await load(["ink.safetensors", "oil.safetensors"], "oil.safetensors"), "oil");
  await assertRejects(() => load(["ink.safetensors", "oil.safetensors"]), AdapterError, "weightName");
  await assertRejects(() => load(["pytorch_lora_weights.bin"]), AdapterError, "pickle");
  await assertRejects(() => load(["ink.bin"], "ink.bin"), AdapterError, "pickle");
});

gpuTest("textual inversions of one and of three vectors give the golden latents, and unload exactly", async (gpu) => {
  const { tensors, note, pipe, draw } = await openGoldens(gpu);
  using _pipe = pipe;
  const prompts: string[] = note.textual_inversion_prompts;
  const untouched = [await draw(), await draw({ prompts })];
  const ids = prompts.map((text) => pipe.tokenizer.encode(text));
  assertEquals(await pipe.loadTextualInversion(golden("textual_inversion_swirl.safetensors")), "<swirl>");
  assertEquals(await pipe.loadTextualInversion(golden("textual_inversion_folk-art.safetensors")), "<folk-art>");
  const encoded = prompts.flatMap((text) => pipe.tokenizer.encode(text, { padding: "max_length", truncation: true }));
  assertEquals(encoded, [...tensors.get("textual_inversion.input_ids")!.data]);
  assertClose(await draw({ prompts }), tensors.get("textual_inversion.latent")!.data, tolerance);
  assertEquals(await draw(), untouched[0], "prompts without the tokens");
  pipe.unloadTextualInversion("<swirl>");
  assertEquals(pipe.tokenizer.addedTokens, ["<folk-art>"]);
  assertEquals(pipe.tokenizer.encode(prompts[0]), ids[0]);
  pipe.unloadTextualInversion();
  assertEquals(prompts.map((text) => pipe.tokenizer.encode(text)), ids);
  assertEquals(await draw({ prompts }), untouched[1], "unloaded");
  assertThrows(() => pipe.unloadTextualInversion("<swirl>"), PromptError, "<swirl>");
});

gpuTest("a token added with a copy of another token's embedding generates the same", async (gpu) => {
  const { pipe } = await openGoldens(gpu);
  using _pipe = pipe;
  const bytes = await Deno.readFile(golden("sd1-mini/text_encoder/model.safetensors"));
  using weights = await SafetensorsFile.open(bytesSource(bytes, "model.safetensors"));
  const table = await weights.float32("text_model.embeddings.token_embedding.weight");
  const words = ["a rose", "a cat"].map((text) => pipe.tokenizer.encode(text).slice(1, -1));
  const data = Float32Array.from(words.flat().flatMap((id) => [...table.subarray(48 * id, 48 * (id + 1))]));
  // A1111's form: the token is the file's name, or the one that is given.
  const source = await file("folder/my-words.pt.safetensors", {
    emb_params: { shape: [words.flat().length, 48], data },
  });
  assertEquals(await pipe.loadTextualInversion(source), "my-words.pt");
  assertEquals(await pipe.loadTextualInversion(source, { token: "*words*" }), "*words*");
  const encode = async (prompt: string) => {
    const { promptEmbeds } = await pipe.encodePrompt(prompt, { doClassifierFreeGuidance: false });
    using embeds = promptEmbeds;
    return await embeds.data();
  };
  const expected = await encode("a rose a cat");
  assertEquals(await encode("*words*"), expected);
  assertEquals(await encode("my-words.pt"), expected);
  assertEquals(await encode("  *words* "), expected);
});

gpuTest("a textual inversion that does not fit the model is rejected, and changes nothing", async (gpu) => {
  const { pipe } = await openGoldens(gpu);
  using _pipe = pipe;
  const refused = async (tensors: Parameters<typeof file>[1], part: string) => {
    const source = await file("bad.safetensors", tensors);
    const error = await assertRejects(() => pipe.loadTextualInversion(source), AdapterError, part);
    assertEquals(error.keys, Object.keys(tensors).sort());
  };
  await refused(
    { "<a>": random([2, 768], 1) },
    "this model's embeddings are 48 wide and the file's tensor is [2, 768]",
  );
  await refused({ "<a>": random([48], 1), emb_params: random([48], 2) }, "one named after each token");
  await refused({ clip_g: random([2, 1280], 1), clip_l: random([2, 768], 2) }, "Stable Diffusion XL");
  await refused({ "<a>": random([1, 1, 48], 1) }, "[1, 1, 48]");
  await refused({}, "nothing");
  for (const path of ["a.pt", "learned_embeds.bin"]) {
    await assertRejects(() => pipe.loadTextualInversion(path), AdapterError, "pickle");
  }
  const swirl = golden("textual_inversion_swirl.safetensors");
  const folkArt = golden("textual_inversion_folk-art.safetensors");
  await pipe.loadTextualInversion(swirl);
  await assertRejects(() => pipe.loadTextualInversion(swirl), PromptError, "Choose another name");
  await pipe.loadTextualInversion(swirl, { token: "<new>_2" });
  await assertRejects(() => pipe.loadTextualInversion(folkArt, { token: "<new>" }), PromptError, '"<new>_2"');
  assertEquals(pipe.tokenizer.idOf("<new>"), undefined);
  assertEquals(pipe.tokenizer.addedTokens, ["<swirl>", "<new>_2"]);
});

/** A pipeline that applies an operator to its prompts' embeddings, as an edit does. */
class OperatorPipeline extends StableDiffusionPipeline {
  operator: Tensor | undefined; // [d, d]

  protected override embeddingsEdit(): EmbeddingsEdit | undefined {
    const { operator } = this;
    if (operator === undefined) return undefined;
    return { key: [operator], apply: (embeddings) => matmul(embeddings, operator, { transposeB: true }) };
  }
}

gpuTest(
  "order of application: token, text encoder's LoRA, edit, UNet's LoRA: keys are (W + s·BA)·E·x",
  async (gpu) => {
    const { note, pipe, draw } = await openGoldens(gpu);
    using _pipe = pipe;
    await pipe.loadTextualInversion(golden("textual_inversion_folk-art.safetensors"));
    await pipe.loadLoraWeights(golden("lora_kohya.safetensors"), { weight: 0.8 });
    const scale = 0.5, prompts: string[] = [note.textual_inversion_prompts[1], note.prompts[0]];
    const edited = new OperatorPipeline(pipe.components);
    const width = 48;
    const operatorData = randomArray(width * width, 3).map((value, i) => (i % (width + 1) === 0 ? 1 : 0) + value / 8);
    using operator = Tensor.from(gpu, operatorData, [width, width]);
    edited.operator = operator;

    // x: what the text encoder says with its LoRA; Ex: what the layers read.
    const { promptEmbeds, negativePromptEmbeds } = await pipe.encodePrompt(prompts, { loraScale: scale });
    using x = promptEmbeds;
    using nothing = negativePromptEmbeds!;
    using edit = matmul(x, operator, { transposeB: true });
    using editOfNothing = matmul(nothing, operator, { transposeB: true });

    // One layer, computed in float64.
    const path = "mid_block.attentions.0.transformer_blocks.0.attn2";
    using lora = await SafetensorsFile.open(bytesSource(await Deno.readFile(golden("lora_kohya.safetensors")), "lora"));
    const base = `lora_unet_${path.replaceAll(".", "_")}_to_k`;
    const [a, b] = [await lora.float64(`${base}.lora_down.weight`), await lora.float64(`${base}.lora_up.weight`)];
    const [rank] = lora.info(`${base}.lora_down.weight`).shape;
    const s = scale * 0.8 * (await lora.float64(`${base}.alpha`))[0] / rank;
    const layer = pipe.unet.crossAttentions.find((layer) => layer.path === path)!;
    const weight = Float64Array.from(await layer.toK.weight.data());
    for (let out = 0; out < 48; out++) {
      for (let i = 0; i < width; i++) {
        for (let r = 0; r < rank; r++) weight[out * width + i] += s * b[out * rank + r] * a[r * width + i];
      }
    }
    const states = await edit.data();
    const expected = Float64Array.from({ length: states.length }, (_, at) => {
      const row = Math.floor(at / 48), out = at % 48;
      let sum = 0;
      for (let i = 0; i < width; i++) sum += weight[out * width + i] * states[row * width + i];
      return sum;
    });
    {
      using context = pipe.unet.prepareContext(edit, { loraScale: scale });
      assertClose(await context.of(layer).keys.data(), expected, f32Tolerance(width + rank), "keys");
    }

    // The whole picture: the edited pipeline generates the same as the plain one does from the
    // embeddings Ex.
    const drawn = await draw({ prompts, scale, on: edited });
    const mini = await loadGoldens("sd1-mini");
    using latents = upload(gpu, mini.tensors.get("pipe.latents")!);
    const { images } = await pipe.generate(undefined, {
      promptEmbeds: edit,
      negativePromptEmbeds: editOfNothing,
      latents,
      numInferenceSteps: note.steps,
      guidanceScale: note.guidance,
      outputType: "latent",
      crossAttentionKwargs: { scale },
    });
    using result = images;
    assertClose(drawn, await result.data(), tolerance, "picture");
  },
);

gpuTest(
  "LoRAs belong to the components: pipelines that share these use them, and they are freed with the models",
  async (gpu) => {
    const { tensors, pipe, draw } = await openGoldens(gpu);
    const other = new StableDiffusionPipeline(pipe.components);
    await other.loadLoraWeights(golden("lora_diffusers.safetensors"));
    assertEquals([...pipe.loras.keys()], ["lora_diffusers"]);
    assertClose(await draw(), tensors.get("lora_diffusers.latent")!.data, tolerance);
    other[Symbol.dispose]();
    await pipe.generate("a rose", { numInferenceSteps: 1, generator: new TorchGenerator(1) });
    pipe[Symbol.dispose](); // gpuTest counts what is left
  },
);
