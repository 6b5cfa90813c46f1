/** Names of layers, types of tensors, and what a file is told to be. Needs no device. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as sd14 from "../../../bench/cases/sd14.ts";
import * as sdxl from "../../../bench/cases/sdxl.ts";
import { inspectLora, type ModelConfigs, targetsOf } from "../../../pipeline/adapters/inspect_lora.ts";
import { planLora } from "../../../pipeline/adapters/lora_plan.ts";
import { LoraConfig, readLoraConfigs } from "../../../pipeline/adapters/lora_scale.ts";
import { readTextualInversions } from "../../../pipeline/adapters/textual_inversion.ts";
import { parseCLIPTextConfig } from "../../../pipeline/checkpoint/diffusers/config/clip.ts";
import { parseUNetConfig } from "../../../pipeline/checkpoint/diffusers/config/unet.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { directoryTree, fileSource } from "../../../pipeline/checkpoint/source/disk.ts";
import { AdapterError } from "../../../pipeline/errors.ts";
import { inspectFile, modelConfigsOf, problemsOf } from "../../../pipeline/inspection.ts";
import { placesOf } from "../checkpoint/ldm/ldm_files.ts";
import { referenceFolder } from "../../paths.ts";
import { type FileTensor, golden, memoryFile, random } from "./sd1_mini.ts";

const configsOf = async (model: string): Promise<ModelConfigs> =>
  await modelConfigsOf(await directoryTree(golden(model)));

const open = async (tensors: Record<string, FileTensor>, metadata?: Record<string, string>) =>
  await SafetensorsFile.open(await memoryFile("test.safetensors", tensors, metadata));

const underscored = (name: string) => name.replaceAll(".", "_");

type Spelling = (path: string, ldm: string) => readonly [down: string, up: string];

const ends = (
  name: string,
  down = "lora_down.weight",
  up = "lora_up.weight",
): readonly [string, string] => [`${name}.${down}`, `${name}.${up}`];
const ab = (name: string) => ends(name, "lora_A.weight", "lora_B.weight");

const unetSpellings: Record<string, Spelling> = {
  kohya: (path) => ends(`lora_unet_${underscored(path)}`),
  "kohya, LDM": (_, ldm) => ends(`lora_unet_${underscored(ldm)}`),
  "prior": (path) => ends(`lora_prior_unet_${underscored(path)}`),
  "ComfyUI, LDM": (_, ldm) => ab(`diffusion_model.${ldm}`),
  "ComfyUI, diffusers": (path) => ends(`diffusion_model.${path}`),
  "whole checkpoint's prefix": (_, ldm) => ab(`model.diffusion_model.${ldm}`),
  "OMI, LDM": (_, ldm) => ends(`unet.${ldm}`),
  "OMI, diffusers": (path) => ends(`unet.${path}`),
  LyCORIS: (path) => ends(`lycoris_${underscored(path)}`),
  PEFT: (path) => ab(`base_model.model.${path}`),
  "PEFT in diffusers": (path) => ab(`unet.base_model.model.${path}`),
  "PEFT, named": (path) => ends(`unet.${path}`, "lora_A.default.weight", "lora_B.default.weight"),
  "no .weight": (path) => ends(`unet.${path}`, "lora_A", "lora_B"),
  "diffusers, 0.2x": (path) => ends(`unet.${path}.lora`, "down.weight", "up.weight"),
};

const textSpellings: Record<string, Spelling> = {
  kohya: (path) => ends(`lora_te_${underscored(path)}`),
  "kohya, numbered": (path) => ends(`lora_te1_${underscored(path)}`),
  diffusers: (path) => ends(`text_encoder.${path}.lora_linear_layer`, "down.weight", "up.weight"),
  "PEFT in diffusers": (path) => ab(`text_encoder.${path}`),
  PEFT: (path) => ab(`base_model.model.${path}`),
  te: (path) => ends(`te.${path}`),
  te1: (path) => ends(`te1.${path}`),
  OMI: (path) => ends(`clip_l.${path}`),
  ComfyUI: (path) => ab(`text_encoders.clip_l.transformer.${path}`),
  "ComfyUI, short": (path) => ab(`clip_l.transformer.${path}`),
  LyCORIS: (path) => ends(`lycoris_${underscored(path)}`),
  LDM: (_, ldm) => ends(ldm),
};

for (const model of ["sd1-mini", "sd2-mini"] as const) {
  Deno.test(`all spellings of all layers of ${model} name the layer that diffusers' conversion puts there`, async () => {
    const targets = targetsOf(await configsOf(model));
    for (const [target, spellings] of [["unet", unetSpellings], ["text_encoder", textSpellings]] as const) {
      const places = placesOf(model, target);
      const paths = [...new Set(targets[target].names.values())];
      assert(paths.length > 30);
      for (const [name, spelling] of Object.entries(spellings)) {
        const tensors: Record<string, FileTensor> = {}, wanted: string[] = [];
        for (const path of paths) {
          const [out, ...inside] = targets[target].shapeOf(path)!;
          const place = places[`${path}.weight`];
          if (inside.length === 0 || (place.includes("in_proj") && name === "LDM")) continue; // norms, fused rows
          const ldm = place.replace(/^model\.diffusion_model\./, "").replace(/\.weight$/, "");
          const [down, up] = spelling(path, ldm);
          tensors[down] = random([1, ...inside], 1);
          tensors[up] = random([out, 1], 2);
          wanted.push(path);
        }
        using file = await open(tensors);
        const { modules } = planLora(file, targets);
        assertEquals(modules.map(({ path }) => path).sort(), wanted.sort(), name);
        assert(modules.every((module) => module.target === target), name);
      }
    }
  });
}

const layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";
const pair = (base: string, down: number[], up: number[]): Record<string, FileTensor> => ({
  [`${base}.lora_down.weight`]: random(down, 1),
  [`${base}.lora_up.weight`]: random(up, 2),
});
const good = pair(layer, [4, 48], [48, 4]);

Deno.test("alpha may be of any numeric type, a scalar or one number in a list", async () => {
  const model = await configsOf("sd1-mini");
  const alphas: FileTensor[] = [
    { dtype: "I64", shape: [], data: BigInt64Array.of(2n) },
    { dtype: "I32", shape: [1], data: Int32Array.of(2) },
    { dtype: "U8", shape: [], data: Uint8Array.of(2) },
    { dtype: "F64", shape: [], data: Float64Array.of(2) },
    { dtype: "F32", shape: [1, 1], data: Float32Array.of(2) },
    { dtype: "F16", shape: [], data: Float16Array.of(2) },
    { dtype: "BF16", shape: [], data: Uint16Array.of(0x4000) },
  ];
  for (const alpha of alphas) {
    using file = await open({ ...good, [`${layer}.alpha`]: alpha });
    const { notes, problems } = await inspectLora(file, { model });
    assertEquals(problems, [], alpha.dtype);
    assert(notes.includes("rank 4, alpha / rank 0.5: 1 layer"), `${alpha.dtype}: ${notes}`);
  }
});

Deno.test("patterns match from a dot to the end, the first first; unstated fields have PEFT's defaults", () => {
  const scale = (json: Record<string, unknown>, path: string, rank: number) =>
    new LoraConfig(json, "adapter_config.json").scale(path, rank);
  const json = {
    r: 4,
    lora_alpha: 8,
    alpha_pattern: { to_k: 2, "attn1\\.to_.": 1 },
    rank_pattern: { "^down.*to_k": 2 },
  };
  assertEquals(scale(json, "mid.attn1.to_k", 4), 0.5);
  assertEquals(scale(json, "mid.attn1.to_q", 4), 0.25);
  assertEquals(scale(json, "mid.attn1.not_to_q", 4), 2);
  assertEquals(scale(json, "down.attn1.to_k", 2), 1);
  assertEquals(scale({ ...json, use_rslora: true }, "x", 4), 4);
  assertEquals(scale({ r: 16 }, "x", 16), 0.5);
  assertThrows(() => scale(json, "down.attn1.to_k", 4), AdapterError, "states rank 2");
  assertThrows(() => scale({ lora_alpha: "16" }, "x", 4), AdapterError, "lora_alpha must be a finite number");
  assertThrows(() => scale({ alpha_pattern: { "(": 1 } }, "x", 4), AdapterError, "regular expression");
  assertThrows(() => scale({ peft_type: "OFT" }, "x", 4), AdapterError, "OFT");
  assertThrows(() => scale({ init_lora_weights: "pissa_niter_4" }, "x", 4), AdapterError, "pissa");
});

Deno.test("the header's configuration is each model's own", () => {
  const text = JSON.stringify({
    "unet.r": 4,
    "unet.lora_alpha": 2,
    "text_encoder.r": 4,
    "text_encoder.lora_alpha": 12,
  });
  const configs = readLoraConfigs("a", { metadata: { lora_adapter_metadata: text } });
  assertEquals([configs.unet?.scale("x", 4), configs.text_encoder?.scale("x", 4)], [0.5, 3]);
  const alone = JSON.stringify({ "text_encoder.r": 4, "text_encoder.lora_alpha": 12 });
  assertEquals(readLoraConfigs("a", { metadata: { lora_adapter_metadata: alone } }).unet, undefined);
  assertThrows(
    () => readLoraConfigs("a", { metadata: { lora_adapter_metadata: "{" } }),
    AdapterError,
    "is not JSON",
  );
});

const sd1 = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";

/** What inspect says of a file, and whether it would load. */
const cases: Record<string, { tensors: Record<string, FileTensor>; says: string; loads?: boolean }> = {
  "SD 1.x": { tensors: pair(sd1, [4, 768], [320, 4]), says: "fits Stable Diffusion 1.x", loads: true },
  "SD 2.x": { tensors: pair(sd1, [4, 1024], [320, 4]), says: "fits Stable Diffusion 2.x", loads: true },
  "SD 1.x by LDM's names": {
    tensors: pair("lora_unet_output_blocks_11_1_transformer_blocks_0_attn2_to_v", [4, 768], [320, 4]),
    says: "fits Stable Diffusion 1.x",
    loads: true,
  },
  "mini": { tensors: good, says: "its own sizes", loads: true },
  "XL by width": {
    tensors: pair(sd1, [4, 2048], [320, 4]),
    says: "is for SDXL by the width of the prompts that it reads, 2048",
  },
  "XL by depth": {
    tensors: pair("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_k", [4, 640], [640, 4]),
    says: "fits SDXL",
    loads: true,
  },
  "XL's text encoder": {
    tensors: pair("lora_te2_text_model_encoder_layers_31_self_attn_k_proj", [4, 1280], [1280, 4]),
    says: "0 of the text encoder, 1 of the second text encoder",
    loads: true,
  },
  "no XL: an unknown layer": {
    tensors: pair("lora_unet_input_blocks_99_0_in_layers_2", [4, 8], [8, 4]),
    says: "no layers",
  },
  Flux: { tensors: pair("lora_unet_double_blocks_0_img_attn_qkv", [4, 8], [8, 4]), says: "for Flux" },
  "Flux in diffusers": {
    tensors: pair("transformer.single_transformer_blocks.0.attn.to_q", [4, 8], [8, 4]),
    says: "for Flux",
  },
  "SD 3": {
    tensors: pair("lora_unet_joint_blocks_0_context_block_attn_qkv", [4, 8], [8, 4]),
    says: "Stable Diffusion 3",
  },
  "a diffusion transformer": {
    tensors: pair("diffusion_model.blocks.0.self_attn.q", [4, 8], [8, 4]),
    says: "for a diffusion transformer",
  },
  inpainting: { tensors: pair("lora_unet_conv_in", [4, 9, 3, 3], [320, 4, 1, 1]), says: "inpainting model" },
  OFT: { tensors: { [`${sd1}.oft_blocks`]: random([4, 4], 1) }, says: "OFT" },
  incomplete: { tensors: { [`${sd1}.hada_w1_a`]: random([4, 4], 1) }, says: "hada_w1_a" },
  NaN: {
    tensors: { ...pair(sd1, [1, 768], [320, 1]), [`${sd1}.lora_up.weight`]: { shape: [320, 1], data: nans(320) } },
    says: `${sd1}.lora_up.weight holds NaN`,
  },
  ControlNet: { tensors: { "controlnet_cond_embedding.conv_in.weight": random([4], 1) }, says: "a ControlNet" },
  LLLite: { tensors: { "lllite_unet_x.down.0.weight": random([4], 1) }, says: "a ControlNet-LLLite" },
  "T2I-Adapter": { tensors: { "adapter.body.0.resnets.0.block1.weight": random([4], 1) }, says: "a T2I-Adapter" },
  "IP-Adapter": { tensors: { "image_proj.norm.weight": random([4], 1) }, says: "an IP-Adapter" },
  hypernetwork: { tensors: { "768.0.linear.0.weight": random([4], 1) }, says: "a hypernetwork" },
  "textual inversion": { tensors: { emb_params: random([2, 768], 1) }, says: "2 of width 768", loads: true },
  "textual inversion of XL": {
    tensors: { clip_l: random([768], 1), clip_g: random([1280], 1) },
    says: "1 of width 768 and 1280 (SDXL)",
    loads: true,
  },
  "half a textual inversion of XL": { tensors: { clip_g: random([1280], 1) }, says: "clip_l and clip_g" },
  "NaN in a textual inversion": { tensors: { "<a>": { shape: [768], data: nans(768) } }, says: "holds NaN" },
};

/** The sizes of the published models. */
const sizes: Readonly<Record<string, ModelConfigs>> = {
  "1.x": {
    unet: parseUNetConfig(sd14.configs.unet, "unet"),
    textEncoder: parseCLIPTextConfig(sd14.configs.text_encoder, "text encoder"),
  },
  "2.x": {
    unet: parseUNetConfig({ ...sd14.configs.unet, cross_attention_dim: 1024 }, "unet"),
    textEncoder: parseCLIPTextConfig(
      { ...sd14.configs.text_encoder, hidden_size: 1024, num_attention_heads: 16, num_hidden_layers: 23 },
      "text encoder",
    ),
  },
  XL: {
    unet: parseUNetConfig(sdxl.configs.unet, "unet"),
    textEncoder: parseCLIPTextConfig(sdxl.configs.text_encoder, "text encoder"),
    textEncoder2: parseCLIPTextConfig(sdxl.configs.text_encoder_2, "text encoder 2"),
  },
};

const published = Object.entries(sizes).map(([name, configs]) => [name, targetsOf(configs)] as const);

const clipLayer = "text_model_encoder_layers_0_self_attn_k_proj";

/** LoRAs of a family in several spellings. */
const spellings: Readonly<Record<string, readonly Record<string, FileTensor>[]>> = {
  "1.x": [
    pair(sd1, [4, 768], [320, 4]),
    pair("lora_unet_output_blocks_11_1_transformer_blocks_0_attn2_to_v", [4, 768], [320, 4]),
    // a layer that SDXL has, too
    pair("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", [4, 768], [640, 4]),
    // of CLIP ViT-L, which SDXL has, too
    pair(`lora_te_${clipLayer}`, [4, 768], [768, 4]),
    pair("cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj", [4, 768], [768, 4]),
  ],
  "2.x": [
    pair(sd1, [4, 1024], [320, 4]),
    pair("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", [4, 1024], [640, 4]),
    pair("lora_te_text_model_encoder_layers_0_self_attn_q_proj", [4, 1024], [1024, 4]),
  ],
  XL: [
    pair("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", [4, 2048], [640, 4]),
    pair("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", [4, 2048], [640, 4]),
    pair("lora_unet_down_blocks_2_attentions_1_transformer_blocks_9_attn1_to_q", [4, 1280], [1280, 4]),
    pair("lora_te2_text_model_encoder_layers_31_self_attn_k_proj", [4, 1280], [1280, 4]),
    pair("lora_unet_label_emb_0_0", [4, 2816], [1280, 4]),
  ],
};

Deno.test("LoRAs of 1.x, 2.x and XL load into their own family, and are named where they are refused", async () => {
  const names: Readonly<Record<string, RegExp>> = {
    "1.x": /768 \(1\.x\) wide|It is for Stable Diffusion 1\.x or 2\.x, and this model is Stable Diffusion XL/,
    "2.x": /1024 \(2\.x\) wide/,
    XL: /2048 \(XL\) wide|It is for Stable Diffusion XL, and this model is Stable Diffusion 1.x or 2.x/,
  };
  for (const [family, files] of Object.entries(spellings)) {
    for (const tensors of files) {
      const weights = await open(tensors);
      for (const [model, targets] of published) {
        const plan = () => planLora(weights, targets);
        if (model === family) assertEquals(plan().modules.length, 1);
        else {
          const { message } = assertThrows(plan, AdapterError);
          assert(names[family].test(message), `${family} on ${model}: ${message}`);
        }
      }
    }
  }
});

Deno.test("metadata states the family of a LoRA of CLIP ViT-L alone, where its keys do not", async () => {
  const tensors = pair("text_encoder.text_model.encoder.layers.0.self_attn.k_proj", [4, 768], [768, 4]);
  const fits: [Record<string, string>, models: string[]][] = [
    [{}, ["1.x", "XL"]],
    [{ "modelspec.architecture": "stable-diffusion-v1/lora" }, ["1.x"]],
    [{ "modelspec.architecture": "stable-diffusion-xl-v1-base/lora" }, ["XL"]],
    [{ ss_base_model_version: "sd_v1" }, ["1.x"]],
    [{ ss_base_model_version: "sdxl_base_v1-0" }, ["XL"]],
    [{ ss_base_model_version: "another" }, ["1.x", "XL"]],
  ];
  for (const [metadata, models] of fits) {
    const weights = await open(tensors, metadata);
    for (const [model, targets] of published.filter(([model]) => model !== "2.x")) {
      if (models.includes(model)) planLora(weights, targets);
      else assertThrows(() => planLora(weights, targets), AdapterError, "It is for Stable Diffusion");
    }
  }
  const { notes } = await inspectLora(await open(tensors));
  assert(notes.includes("fits Stable Diffusion 1.x and SDXL"), `${notes}`);
});

Deno.test("a numbered text encoder is of any family, as diffusers converts LoRAs of all to kohya's names", async () => {
  const sized = [["1.x", 768], ["XL", 768], ["2.x", 1024]] as const;
  for (const [family, width] of sized) {
    const weights = await open(pair(`lora_te1_${clipLayer}`, [4, width], [width, 4]));
    assertEquals(planLora(weights, targetsOf(sizes[family])).modules.length, 1, family);
  }
  const stated = await open(pair(`lora_te1_${clipLayer}`, [4, 768], [768, 4]), {
    ss_base_model_version: "sdxl_base_v1-0",
  });
  assertThrows(() => planLora(stated, targetsOf(sizes["1.x"])), AdapterError, "It is for Stable Diffusion XL");
});

Deno.test("textual inversions name the family that they are for where it is another", async () => {
  const read = async (tensors: Record<string, FileTensor>, width2?: number, metadata?: Record<string, string>) =>
    await readTextualInversions(await open(tensors, metadata), { width: 768, width2 });
  const one = { emb_params: random([2, 768], 1) }, first = { clip_l: random([768], 1) };
  const xl = { "modelspec.architecture": "stable-diffusion-xl-v1-base/textual-inversion" };
  await assertRejects(() => read(one, 1280), AdapterError, "it is for Stable Diffusion 1.x or 2.x, and this model is");
  const half = await assertRejects(
    () => read({ emb_params: random([2, 1280], 1) }, 1280),
    AdapterError,
    "need a tensor each",
  );
  assert(!half.message.includes("1.x"), "the second encoder's width");
  const wrong = "it is for Stable Diffusion XL, and this model is";
  await assertRejects(() => read({ ...first, clip_g: random([1280], 2) }), AdapterError, wrong);
  await assertRejects(() => read(first, undefined, xl), AdapterError, wrong);
  assertEquals((await read(first)).length, 1); // ComfyUI calls the encoder of 1.x clip_l, too
});

Deno.test("a LoRA whose UNet tells the family may number its text encoder as it likes", async () => {
  for (const te of ["lora_te_", "lora_te1_"]) {
    for (const [model, targets] of published) {
      const width = { "1.x": 768, "2.x": 1024, XL: 2048 }[model]!, text = model === "2.x" ? 1024 : 768;
      const weights = await open({
        ...pair("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", [4, width], [640, 4]),
        ...pair(`${te}${clipLayer}`, [4, text], [text, 4]),
      });
      assertEquals(planLora(weights, targets).modules.length, 2);
    }
  }
});

Deno.test("inspect knows a LoRA of an SDXL with sizes of its own", async () => {
  const source = await fileSource(`${referenceFolder}/sdxl_adapters/kohya.safetensors`);
  const inspection = await inspectFile(source);
  assertEquals(problemsOf(inspection), []);
  assert(inspection.notes.some((note) => note.includes("but a model of its own sizes")));
});

function nans(count: number): Float32Array<ArrayBuffer> {
  return new Float32Array(count).fill(NaN, count - 1);
}

for (const [name, { tensors, says, loads = false }] of Object.entries(cases)) {
  Deno.test(`inspect tells of ${name} what it is, and whether it would load`, async () => {
    const inspection = await inspectFile(await memoryFile("test.sft", tensors));
    const problems = problemsOf(inspection);
    const text = [inspection.description, ...inspection.notes, ...problems].join("\n");
    assert(text.includes(says), text);
    assertEquals(problems.length === 0, loads, text);
  });
}

Deno.test("keys that differ in numbers are listed once, with their count", async () => {
  const keys = Array.from({ length: 30 }, (_, i) => `lora_unet_down_blocks_${i}_attn.other`);
  using file = await open(Object.fromEntries(keys.map((key) => [key, random([1], 1)])));
  const targets = targetsOf(await configsOf("sd1-mini"));
  const error = await assertRejects(() => Promise.try(() => planLora(file, targets)), AdapterError);
  assertEquals(error.keys.length, 30);
  assertEquals(error.message.match(/_attn\.other/g)?.length, 1);
  assert(error.message.includes("and 29 more that differ in numbers"), error.message);
});
