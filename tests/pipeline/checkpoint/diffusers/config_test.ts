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
    upBlockTypes: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    blockOutChannels: [320, 640, 1280, 1280],
    layersPerBlock: 2,
    downsamplePadding: 1,
    midBlockScaleFactor: 1,
    normNumGroups: 32,
    normEps: 1e-5,
    crossAttentionDim: 1280,
    attentionHeads: [8, 8, 8, 8],
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
  [{ addition_embed_type: "text_time" }, "addition_embed_type", "SDXL"],
  [{ in_channels: 9 }, "in_channels", "inpainting"],
  [{ in_channels: 8 }, "in_channels", "instruct-pix2pix"],
  [{ in_channels: 5 }, "in_channels", "depth"],
  [{ class_embed_type: "projection" }, "class_embed_type", "null"],
  [{ num_class_embeds: 1000 }, "num_class_embeds", "upscalers"],
  [{ num_attention_heads: 8 }, "num_attention_heads", "attention_head_dim"],
  [{ dual_cross_attention: true }, "dual_cross_attention", "false"],
  [{ only_cross_attention: [true, true, true, false] }, "only_cross_attention", "false"],
  [{ resnet_time_scale_shift: "scale_shift" }, "resnet_time_scale_shift", '"default"'],
  [{ time_cond_proj_dim: 256 }, "time_cond_proj_dim", "LCM LoRA"],
  [{ transformer_layers_per_block: [1, 2, 10, 1] }, "transformer_layers_per_block", "same for all"],
  [{ transformer_layers_per_block: 2 }, "transformer_layers_per_block", "SDXL"],
  [{ act_fn: "gelu" }, "act_fn", "silu"],
  [{ mid_block_type: "UNetMidBlock2DSimpleCrossAttn" }, "mid_block_type", "UNetMidBlock2DCrossAttn"],
  [{ down_block_types: ["AttnDownBlock2D"] }, "down_block_types", "CrossAttnDownBlock2D"],
  [{ up_block_types: ["UpBlock2D"] }, "up_block_types", "as many as down_block_types, 4"],
  [{ block_out_channels: [32] }, "block_out_channels", "as many as"],
  [{ block_out_channels: [320, 640, 1280, 1290] }, "block_out_channels", "does not divide 1290"],
  [{ block_out_channels: [320, 0, 1280, 1280] }, "block_out_channels", "from 1 on"],
  [{ cross_attention_dim: [768, 1024, 768, 768] }, "cross_attention_dim", "the same for all"],
  [{ norm_num_groups: null }, "norm_num_groups", "a whole number"],
  [{ layers_per_block: "2" }, "layers_per_block", "one whole number"],
  [{ flip_sin_to_cos: 1 }, "flip_sin_to_cos", "true or false"],
  [{ norm_eps: "1e-5" }, "norm_eps", "a number"],
];

for (const [json, key, hint] of refusedUNets) {
  Deno.test(`a UNet with ${JSON.stringify(json)} is refused by name`, () => {
    const error = assertThrows(() => parseUNetConfig(json, "unet/config.json"), ConfigError, hint);
    assert(error instanceof ConfigError);
    assertEquals([error.key, error.value, error.source], [key, json[key], "unet/config.json"]);
    assert(error.message.includes(JSON.stringify(json[key])), error.message);
  });
}

Deno.test("configs that are no objects are refused", () => {
  for (const json of [null, [], 1, "x"]) {
    assertThrows(() => parseUNetConfig(json, "f"), ConfigError, "must be a JSON object");
    assertThrows(() => parseModelIndex(json, "f"), ConfigError, "must be a JSON object");
  }
});

Deno.test("the autoencoder's config: defaults of diffusers 0.23, and what is refused", () => {
  assertEquals(parseAutoencoderKLConfig({}, "f"), {
    inChannels: 3,
    outChannels: 3,
    latentChannels: 4,
    blockOutChannels: [64],
    layersPerBlock: 1,
    normNumGroups: 32,
    sampleSize: 32,
    scalingFactor: 0.18215,
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

Deno.test("the text model's config: defaults of transformers 4.35, and what is refused", () => {
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
  const refused = [{ model_type: "t5" }, { hidden_act: "relu" }, { num_attention_heads: 7 }, { eos_token_id: -1 }];
  for (const json of refused) assertThrows(() => parseCLIPTextConfig(json, "f"), ConfigError);
});

Deno.test("the vision model's patches must cover its pictures", () => {
  assertEquals(parseCLIPConfig({ vision_config: { patch_size: 14 } }, "f").vision.patchSize, 14);
  assertThrows(
    () => parseCLIPConfig({ vision_config: { image_size: 224, patch_size: 15 } }, "f"),
    ConfigError,
    "a divisor of image_size",
  );
});

Deno.test("a whole CLIP config yields its halves, and text_config_dict takes the place of text_config", () => {
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

Deno.test("model_index.json of another pipeline, without a part or with a strange one is refused", () => {
  const refuse = (change: Record<string, unknown>, message: string) =>
    assertThrows(() => parseModelIndex({ ...parts, ...change }, "model_index.json"), ConfigError, message);
  refuse({ _class_name: "StableDiffusionXLPipeline" }, '"StableDiffusionXLPipeline"');
  refuse({ _class_name: undefined }, "_class_name is missing");
  refuse({ tokenizer: undefined }, "tokenizer is missing");
  refuse({ unet: [null, null] }, "unet is [null,null]");
  refuse({ text_encoder: ["transformers", "T5EncoderModel"] }, "T5EncoderModel");
  refuse({ text_encoder_2: ["transformers", "CLIPTextModelWithProjection"] }, "text_encoder_2");
  refuse({ scheduler: "DDIMScheduler" }, "a library and a class");
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

Deno.test("the values that set SD 2.x apart are read from its config", async () => {
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
