import { assert, assertEquals, assertThrows } from "@std/assert";
import { parseAutoencoderKLConfig } from "../../../../pipeline/checkpoint/diffusers/config/vae.ts";
import { parseCLIPConfig, parseCLIPTextConfig } from "../../../../pipeline/checkpoint/diffusers/config/clip.ts";
import { parseModelIndex } from "../../../../pipeline/checkpoint/diffusers/config/model_index.ts";
import { parseUNetConfig } from "../../../../pipeline/checkpoint/diffusers/config/unet.ts";
import { readConfig } from "../../../../pipeline/checkpoint/diffusers/config/fields.ts";
import { directoryTree } from "../../../../pipeline/checkpoint/source/disk.ts";
import { ConfigError } from "../../../../pipeline/errors.ts";
import { goldens, pocket, repository } from "../../../paths.ts";

Deno.test("an empty UNet config has the defaults of diffusers 0.23", () => {
  assertEquals(parseUNetConfig({}, "f"), {
    sampleSize: null,
    inChannels: 4,
    outChannels: 4,
    flipSinToCos: true,
    freqShift: 0,
    downBlockTypes: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    midBlockType: "UNetMidBlock2DCrossAttn",
    upBlockTypes: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    blockOutChannels: [320, 640, 1280, 1280],
    layersPerBlock: 2,
    downsamplePadding: 1,
    midBlockScaleFactor: 1,
    normNumGroups: 32,
    normEps: 1e-5,
    crossAttentionDim: 1280,
    attentionHeads: [8, 8, 8, 8],
    transformerLayersPerBlock: [1, 1, 1, 1],
    timeCondProjDim: null,
    textTime: null,
  });
});

Deno.test("attention_head_dim is the number of heads: one for all blocks, or one for each", () => {
  assertEquals(parseUNetConfig({ attention_head_dim: 4 }, "f").attentionHeads, [4, 4, 4, 4]);
  assertEquals(parseUNetConfig({ attention_head_dim: [5, 10, 20, 20] }, "f").attentionHeads, [5, 10, 20, 20]);
  assertThrows(
    () => parseUNetConfig({ attention_head_dim: [5, 10] }, "f"),
    ConfigError,
    "attention_head_dim is [5,10]",
  );
  assertThrows(() => parseUNetConfig({ attention_head_dim: 7 }, "f"), ConfigError, "does not divide 320");
});

const refusedUNets: [json: Record<string, unknown>, key: string, hint: string][] = [
  [{ _class_name: "UNet2DModel" }, "_class_name", "UNet2DConditionModel"],
  [{ addition_embed_type: "text" }, "addition_embed_type", "text_time"],
  [{ addition_embed_type: "text_time", addition_time_embed_dim: 255 }, "addition_time_embed_dim", "even"],
  [{ projection_class_embeddings_input_dim: 2816 }, "projection_class_embeddings_input_dim", "null"],
  [{ in_channels: 9 }, "in_channels", "inpainting"],
  [{ in_channels: 8 }, "in_channels", "instruct-pix2pix"],
  [{ in_channels: 5 }, "in_channels", "depth"],
  [{ class_embed_type: "projection" }, "class_embed_type", "null"],
  [{ num_class_embeds: 1000 }, "num_class_embeds", "upscalers"],
  [{ num_attention_heads: 8 }, "num_attention_heads", "attention_head_dim"],
  [{ dual_cross_attention: true }, "dual_cross_attention", "false"],
  [{ only_cross_attention: [true, true, true, false] }, "only_cross_attention", "false"],
  [{ resnet_time_scale_shift: "scale_shift" }, "resnet_time_scale_shift", '"default"'],
  [{ transformer_layers_per_block: [1, 2, 10] }, "transformer_layers_per_block", "as many as down_block_types, 4"],
  [{ transformer_layers_per_block: [1, [1, 1], 2, 2] }, "transformer_layers_per_block", "whole numbers"],
  [
    { transformer_layers_per_block: [1, 2, 3, 4], reverse_transformer_layers_per_block: [1, 2, 3, 4] },
    "reverse_transformer_layers_per_block",
    "[4,3,2,1]",
  ],
  [{ act_fn: "gelu" }, "act_fn", "silu"],
  [{ mid_block_only_cross_attention: true }, "mid_block_only_cross_attention", "null"],
  [{ time_embedding_dim: 512 }, "time_embedding_dim", "null"],
  [{ quantization_config: { quant_method: "bitsandbytes" } }, "quantization_config", "quantized"],
  [{ layers_per_block: [1, 2, 2, 2] }, "layers_per_block", "same for all"],
  [{ mid_block_type: "UNetMidBlock2DSimpleCrossAttn" }, "mid_block_type", "UNetMidBlock2DCrossAttn"],
  [{ down_block_types: ["AttnDownBlock2D"] }, "down_block_types", "CrossAttnDownBlock2D"],
  [{ up_block_types: ["UpBlock2D"] }, "up_block_types", "as many as down_block_types, 4"],
  [{ block_out_channels: [32] }, "block_out_channels", "as many as"],
  [{ block_out_channels: [320, 640, 1280, 1290] }, "block_out_channels", "does not divide 1290"],
  [{ block_out_channels: [320, 0, 1280, 1280] }, "block_out_channels", "whole numbers from 1 to"],
  [{ cross_attention_dim: [768, 1024, 768, 768] }, "cross_attention_dim", "the same for all"],
  [{ norm_num_groups: null }, "norm_num_groups", "a whole number"],
  [{ layers_per_block: "2" }, "layers_per_block", "one whole number"],
  [{ flip_sin_to_cos: 1 }, "flip_sin_to_cos", "true or false"],
  [{ norm_eps: "1e-5" }, "norm_eps", "a number"],
  [{ norm_eps: -1e-5 }, "norm_eps", "a number of at least 0"],
];

/** Explicit values that equal the supported behavior, by key. */
const equivalentUNets: Record<string, unknown>[] = [
  { only_cross_attention: [false, false, false, false] },
  { mid_block_only_cross_attention: false },
  { dual_cross_attention: null },
  { class_embeddings_concat: null },
  { layers_per_block: [2, 2, 2, 2] },
  { transformer_layers_per_block: [1, 1, 1, 1] },
  { reverse_transformer_layers_per_block: [[1, 1], 1, 1, 1] },
  { cross_attention_dim: [1280, 1280, 1280, 1280] },
  { time_embedding_dim: 1280 },
  { resnet_out_scale_factor: 1.0 },
  { act_fn: "swish" },
];

Deno.test("values that equal what is supported are read as the defaults", () => {
  const defaults = parseUNetConfig({}, "f");
  for (const json of equivalentUNets) assertEquals(parseUNetConfig(json, "f"), defaults, JSON.stringify(json));
  assertEquals(parseUNetConfig({ sample_size: [64, 64] }, "f").sampleSize, 64);
  assertEquals(parseUNetConfig({ mid_block_type: null }, "f").midBlockType, null);
});

Deno.test("SDXL's UNet: blocks in its order, layers and heads by lists, conditions on text and sizes", () => {
  const base = {
    addition_embed_type: "text_time",
    addition_time_embed_dim: 256,
    projection_class_embeddings_input_dim: 2816,
    attention_head_dim: [5, 10, 20],
    block_out_channels: [320, 640, 1280],
    cross_attention_dim: 2048,
    down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    transformer_layers_per_block: [1, 2, 10],
    up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    use_linear_projection: true,
  };
  const config = parseUNetConfig(base, "f");
  assertEquals(config.textTime, { timeEmbedDim: 256, inputDim: 2816 });
  assertEquals(config.transformerLayersPerBlock, [1, 2, 10]);
  assertEquals(config.attentionHeads, [5, 10, 20]);
  assertEquals(config.downBlockTypes[0], "DownBlock2D");
  for (const key of ["addition_time_embed_dim", "projection_class_embeddings_input_dim"]) {
    assertThrows(() => parseUNetConfig({ ...base, [key]: null }, "f"), ConfigError, `${key} is null`);
  }
  assertEquals(parseUNetConfig({ ...base, reverse_transformer_layers_per_block: [10, 2, 1] }, "f"), config);
});

/** All keys of diffusers 0.35's UNet2DConditionModel with their defaults. */
const laterDefaults = {
  act_fn: "silu",
  addition_embed_type: null,
  addition_embed_type_num_heads: 64,
  addition_time_embed_dim: null,
  attention_head_dim: 8,
  attention_type: "default",
  block_out_channels: [320, 640, 1280, 1280],
  center_input_sample: false,
  class_embed_type: null,
  class_embeddings_concat: false,
  conv_in_kernel: 3,
  conv_out_kernel: 3,
  cross_attention_dim: 1280,
  cross_attention_norm: null,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  downsample_padding: 1,
  dropout: 0.0,
  dual_cross_attention: false,
  encoder_hid_dim: null,
  encoder_hid_dim_type: null,
  flip_sin_to_cos: true,
  freq_shift: 0,
  in_channels: 4,
  layers_per_block: 2,
  mid_block_only_cross_attention: null,
  mid_block_scale_factor: 1,
  mid_block_type: "UNetMidBlock2DCrossAttn",
  norm_eps: 1e-5,
  norm_num_groups: 32,
  num_attention_heads: null,
  num_class_embeds: null,
  only_cross_attention: false,
  out_channels: 4,
  projection_class_embeddings_input_dim: null,
  resnet_out_scale_factor: 1.0,
  resnet_skip_time_act: false,
  resnet_time_scale_shift: "default",
  reverse_transformer_layers_per_block: null,
  sample_size: null,
  time_cond_proj_dim: null,
  time_embedding_act_fn: null,
  time_embedding_dim: null,
  time_embedding_type: "positional",
  timestep_post_act: null,
  transformer_layers_per_block: 1,
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  upcast_attention: false,
  use_linear_projection: false,
};

Deno.test("the complete defaults of later versions of diffusers and transformers are the defaults here", () => {
  assertEquals(parseUNetConfig(laterDefaults, "f"), parseUNetConfig({}, "f"));
  assertEquals(
    parseAutoencoderKLConfig({
      force_upcast: true,
      latents_mean: null,
      latents_std: null,
      shift_factor: null,
      use_quant_conv: true,
      use_post_quant_conv: true,
      mid_block_add_attention: true,
      norm_num_groups: 32,
      sample_size: [32, 32],
    }, "f"),
    parseAutoencoderKLConfig({}, "f"),
  );
  assertEquals(
    parseAutoencoderKLConfig({ shift_factor: 0, latents_mean: [0, 0, 0, 0], latents_std: [1, 1, 1, 1] }, "f"),
    parseAutoencoderKLConfig({}, "f"),
  );
  assertEquals(parseCLIPTextConfig({ hidden_act: "gelu_python" }, "f").hiddenAct, "gelu");
});

for (const [json, key, hint] of refusedUNets) {
  Deno.test(`a UNet with ${JSON.stringify(json)} is refused by name`, () => {
    const error = assertThrows(() => parseUNetConfig(json, "unet/config.json"), ConfigError, hint);
    assert(error instanceof ConfigError);
    assertEquals([error.key, error.value, error.source], [key, json[key], "unet/config.json"]);
    assert(error.message.includes(JSON.stringify(json[key])), error.message);
  });
}

Deno.test("counts larger than in any real model are rejected for every key", () => {
  const counts: [parse: (json: unknown, file: string) => unknown, keys: string[]][] = [
    [parseUNetConfig, [
      "layers_per_block",
      "sample_size",
      "attention_head_dim",
      "norm_num_groups",
      "cross_attention_dim",
    ]],
    [parseAutoencoderKLConfig, ["layers_per_block", "sample_size", "norm_num_groups", "latent_channels"]],
    [parseCLIPTextConfig, ["num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings"]],
  ];
  for (const [parse, keys] of counts) {
    for (const key of keys) assertThrows(() => parse({ [key]: 1e9 }, "config.json"), ConfigError, key);
  }
  const lists = { block_out_channels: Array(1000).fill(32) };
  assertThrows(() => parseUNetConfig(lists, "config.json"), ConfigError, "a list of 1 to 64");
});

Deno.test("configurations that are not objects are rejected", () => {
  for (const json of [null, [], 1, "x"]) {
    assertThrows(() => parseUNetConfig(json, "f"), ConfigError, "must be a JSON object");
    assertThrows(() => parseModelIndex(json, "f"), ConfigError, "must be a JSON object");
  }
});

Deno.test("the autoencoder's configuration has the defaults of diffusers 0.23, and rejects unsupported values", () => {
  assertEquals(parseAutoencoderKLConfig({}, "f"), {
    inChannels: 3,
    outChannels: 3,
    latentChannels: 4,
    blockOutChannels: [64],
    layersPerBlock: 1,
    normNumGroups: 32,
    sampleSize: 32,
    scalingFactor: 0.18215,
    forceUpcast: true,
  });
  const refused = [
    { latent_channels: 16 },
    { shift_factor: 0.1 },
    { scaling_factor: 0 },
    { act_fn: "relu" },
    { block_out_channels: [64, 64] },
    { _class_name: "AutoencoderTiny" },
    { down_block_types: ["AttnDownEncoderBlock2D"] },
  ];
  for (const json of refused) assertThrows(() => parseAutoencoderKLConfig(json, "f"), ConfigError);
});

Deno.test("the text model's configuration has the defaults of transformers 4.35, and rejects unsupported values", () => {
  assertEquals(parseCLIPTextConfig({}, "f"), {
    hiddenSize: 512,
    intermediateSize: 2048,
    numHiddenLayers: 12,
    numAttentionHeads: 8,
    hiddenAct: "quick_gelu",
    layerNormEps: 1e-5,
    projectionDim: 512,
    vocabSize: 49408,
    maxPositionEmbeddings: 77,
    eosTokenId: 49407,
  });
  const refused = [{ model_type: "t5" }, { hidden_act: "relu" }, { num_attention_heads: 7 }, { eos_token_id: -1 }, {
    layer_norm_eps: -1,
  }];
  for (const json of refused) assertThrows(() => parseCLIPTextConfig(json, "f"), ConfigError);
});

Deno.test("the vision model's patch size must divide its image size", () => {
  assertEquals(parseCLIPConfig({ vision_config: { patch_size: 14 } }, "f").vision.patchSize, 14);
  assertThrows(
    () => parseCLIPConfig({ vision_config: { image_size: 224, patch_size: 15 } }, "f"),
    ConfigError,
    "a divisor of image_size",
  );
});

Deno.test("a CLIP configuration contains the text and vision models'; text_config_dict replaces text_config", () => {
  const json = {
    model_type: "clip",
    projection_dim: 64,
    text_config: { hidden_size: 128, num_hidden_layers: 2 },
    vision_config: { hidden_size: 96, image_size: 64, patch_size: 8, hidden_act: "gelu" },
    vision_config_dict: { hidden_size: 1024, num_attention_heads: 16, patch_size: 14 },
  };
  const { text, vision, projectionDim } = parseCLIPConfig(json, "f");
  assertEquals([text.hiddenSize, text.numHiddenLayers, projectionDim], [128, 2, 64]);
  assertEquals([vision.hiddenSize, vision.patchSize, vision.imageSize, vision.hiddenAct], [
    1024,
    14,
    224,
    "quick_gelu",
  ]);
  assertEquals(parseCLIPTextConfig(json, "f"), text);
  assertThrows(() => parseCLIPConfig({ model_type: "siglip" }, "f"), ConfigError, "siglip");
  assertThrows(() => parseCLIPConfig({ text_config: { hidden_size: 0 } }, "f"), ConfigError, "f, text_config");
});

const parts = {
  _class_name: "StableDiffusionPipeline",
  _diffusers_version: "0.23.1",
  vae: ["diffusers", "AutoencoderKL"],
  text_encoder: ["transformers", "CLIPTextModel"],
  tokenizer: ["transformers", "CLIPTokenizer"],
  unet: ["diffusers", "UNet2DConditionModel"],
  scheduler: ["diffusers", "DDIMScheduler"],
};

Deno.test("model_index.json names the parts; the safety checker and its extractor may be absent", () => {
  const index = parseModelIndex({ ...parts, safety_checker: [null, null], image_encoder: [null, null] }, "f");
  assertEquals(index.components.unet, "UNet2DConditionModel");
  assertEquals([index.components.safety_checker, index.components.feature_extractor], [null, null]);
  assertEquals(index.requiresSafetyChecker, true);
});

Deno.test("model_index.json is rejected for another pipeline, a missing part or an unknown part", () => {
  const refuse = (change: Record<string, unknown>, message: string) =>
    assertThrows(() => parseModelIndex({ ...parts, ...change }, "model_index.json"), ConfigError, message);
  refuse({ _class_name: "StableDiffusionXLPipeline" }, "text_encoder_2 is missing");
  refuse({ _class_name: "StableDiffusionXLPipeline" }, '"StableDiffusionXLPipeline"');
  const named = (_class_name: string, message: string) => refuse({ _class_name }, message);
  named("StableDiffusionXLImg2ImgPipeline", "an SDXL refiner");
  named("StableDiffusionXLInpaintPipeline", "an SDXL inpainting model");
  named("StableDiffusionXLInstructPix2PixPipeline", "an SDXL instruct-pix2pix model");
  named("StableDiffusionXLControlNetPipeline", "an SDXL ControlNet");
  refuse({ _class_name: undefined }, "_class_name is missing");
  refuse({ tokenizer: undefined }, "tokenizer is missing");
  refuse({ unet: [null, null] }, "unet is [null,null]");
  refuse({ text_encoder: ["transformers", "T5EncoderModel"] }, "T5EncoderModel");
  refuse({ text_encoder_2: ["transformers", "CLIPTextModelWithProjection"] }, "text_encoder_2");
  refuse({ scheduler: "DDIMScheduler" }, "a library and a class");
  refuse({ constructor: ["diffusers", "Evil"] }, "constructor");
  refuse(JSON.parse('{ "__proto__": ["diffusers", "Evil"] }'), "__proto__");
});

const checkpoints = ["tests/goldens/sd1-mini", "tests/goldens/sd2-mini", "models/pocket", "../shared/sd14"];
for (const path of checkpoints) {
  const isThere = await Deno.stat(`${repository}/${path}`).then(() => true, () => false);
  Deno.test({
    name: `the configs of ${path} are read${isThere ? "" : " (skipped: the folder is not there)"}`,
    ignore: !isThere,
    fn: async () => {
      const tree = await directoryTree(`${repository}/${path}`);
      const index = await readConfig(tree, "model_index.json", parseModelIndex);
      assertEquals(index.components.text_encoder, "CLIPTextModel");
      const unet = await readConfig(tree, "unet/config.json", parseUNetConfig);
      const vae = await readConfig(tree, "vae/config.json", parseAutoencoderKLConfig);
      const text = await readConfig(tree, "text_encoder/config.json", parseCLIPTextConfig);
      assertEquals(unet.crossAttentionDim, text.hiddenSize);
      assertEquals(unet.attentionHeads.length, unet.blockOutChannels.length);
      assert(vae.scalingFactor > 0);
      if (await tree.has("safety_checker/config.json")) {
        const { vision } = await readConfig(tree, "safety_checker/config.json", parseCLIPConfig);
        assertEquals(vision.hiddenSize, 1024);
      }
    },
  });
}

Deno.test("the values that distinguish SD 2.x are read from its configuration", async () => {
  const tree = await directoryTree(`${goldens}/sd2-mini`);
  const unet = await readConfig(tree, "unet/config.json", parseUNetConfig);
  assertEquals(unet.attentionHeads, [2, 4, 6]);
  assertEquals((await readConfig(tree, "text_encoder/config.json", parseCLIPTextConfig)).hiddenAct, "gelu");
});

Deno.test("the safety checker's and the pocket CLIP's configs are read", async () => {
  const safety = await directoryTree(`${goldens}/safety_checker`);
  assert((await readConfig(safety, "config.json", parseCLIPConfig)).vision.imageSize > 0);
  const clip = await readConfig(await directoryTree(`${pocket}/clip`), "config.json", parseCLIPConfig);
  assertEquals([clip.vision.imageSize, clip.vision.patchSize, clip.projectionDim], [64, 8, 64]);
});
