import { assert } from "@std/assert";
import fc from "fast-check";
import { parseCLIPConfig, parseCLIPTextConfig } from "../../pipeline/checkpoint/diffusers/config/clip.ts";
import { parseCLIPImageProcessorConfig } from "../../pipeline/checkpoint/diffusers/config/clip_image_processor.ts";
import { parseModelIndex } from "../../pipeline/checkpoint/diffusers/config/model_index.ts";
import { parseAutoencoderTinyConfig } from "../../pipeline/checkpoint/diffusers/config/tiny_vae.ts";
import { parseUNetConfig } from "../../pipeline/checkpoint/diffusers/config/unet.ts";
import { parseAutoencoderKLConfig } from "../../pipeline/checkpoint/diffusers/config/vae.ts";
import { memoryTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import { CheckpointError, ConfigError } from "../../pipeline/errors.ts";
import { CLIPTokenizer } from "../../pipeline/text/tokenizer.ts";
import { CLASSES } from "../../schedulers/classes.ts";
import { Scheduler } from "../../schedulers/mod.ts";
import { SchedulerError } from "../../schedulers/error.ts";
import { withoutWarnings } from "../warnings.ts";
import { fuzz } from "./fuzz.ts";
import { mutated } from "./mutations.ts";

/** The longest message: values of files are quoted in part only. */
const longestMessage = 2000;

function assertTold(error: unknown, types: readonly (abstract new (...args: never[]) => Error)[]): void {
  assert(types.some((type) => error instanceof type), String((error as Error).stack));
  assert((error as Error).message.length < longestMessage, (error as Error).message.slice(0, 200));
}

const configs: readonly [parse: (json: unknown, file: string) => unknown, json: Record<string, unknown>][] = [
  [parseUNetConfig, {
    sample_size: 64,
    layers_per_block: 2,
    block_out_channels: [320, 640, 1280, 1280],
    attention_head_dim: [5, 10, 20, 20],
    down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    only_cross_attention: [false, false, false, false],
    transformer_layers_per_block: [1, 1, 1, 1],
    cross_attention_dim: 768,
    norm_num_groups: 32,
  }],
  [parseAutoencoderKLConfig, {
    block_out_channels: [128, 256],
    layers_per_block: 2,
    latent_channels: 4,
    scaling_factor: 0.18215,
    down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D"],
    up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D"],
  }],
  [parseAutoencoderTinyConfig, { encoder_block_out_channels: [64, 64], num_encoder_blocks: [1, 3], scaling_factor: 1 }],
  [parseCLIPTextConfig, { hidden_size: 768, num_hidden_layers: 12, vocab_size: 49408, max_position_embeddings: 77 }],
  [parseCLIPConfig, { projection_dim: 512, text_config: { hidden_size: 512 }, vision_config: { patch_size: 32 } }],
  [parseCLIPImageProcessorConfig, {
    size: { shortest_edge: 224 },
    crop_size: { height: 224, width: 224 },
    image_mean: [0.4, 0.4, 0.4],
    resample: 3,
  }],
  [parseModelIndex, { _class_name: "StableDiffusionPipeline", vae: ["diffusers", "AutoencoderKL"] }],
];

Deno.test("a changed configuration of a model is read, or a ConfigError with a short message", async () => {
  const inputs = fc.oneof(
    ...configs.map(([parse, json]) => mutated(json).map((text) => [parse, text] as const)),
  );
  await fuzz(inputs, ([parse, text]) => {
    try {
      parse(JSON.parse(text), "config.json");
    } catch (error) {
      assertTold(error, [ConfigError]);
    }
  }, 3000);
});

Deno.test("a changed configuration of any scheduler plans a finite run, or is a SchedulerError", async () => {
  const json = {
    num_train_timesteps: 1000,
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    trained_betas: null,
    prediction_type: "epsilon",
    timestep_spacing: "leading",
    steps_offset: 1,
    solver_order: 2,
    use_karras_sigmas: true,
    algorithm_type: "dpmsolver++",
    final_sigmas_type: "zero",
    thresholding: false,
  };
  const inputs = fc.tuple(fc.constantFrom(...Object.keys(CLASSES)), mutated(json));
  using _ = withoutWarnings();
  await fuzz(inputs, ([name, text]) => {
    try {
      const given = JSON.parse(text);
      const config = typeof given === "object" && given !== null && !Array.isArray(given)
        ? { ...given, _class_name: given._class_name ?? name }
        : given;
      const scheduler = Scheduler.fromConfig(config);
      const { steps } = scheduler.plan(Math.min(4, scheduler.alphasCumprod.length));
      for (const { combine } of steps) {
        for (const { terms } of combine) assert(terms.every(({ coefficient }) => Number.isFinite(coefficient)));
      }
    } catch (error) {
      assertTold(error, [SchedulerError]);
    }
  }, 1500);
});

const tokenizer: Readonly<Record<string, unknown>> = {
  "vocab.json": { "a</w>": 0, "b</w>": 1, a: 2, b: 3, "ab</w>": 4, "<|startoftext|>": 5, "<|endoftext|>": 6 },
  "merges.txt": "#version: 0.2\na b</w>",
  "tokenizer_config.json": {
    bos_token: { content: "<|startoftext|>", lstrip: false },
    model_max_length: 77,
    additional_special_tokens: ["<x>"],
    added_tokens_decoder: { "5": { content: "<|startoftext|>" }, "7": { content: "<x>" } },
  },
  "special_tokens_map.json": { eos_token: "<|endoftext|>", pad_token: { content: "!" } },
  "added_tokens.json": { "<x>": 7 },
  "tokenizer.json": {
    added_tokens: [{ id: 5, content: "<|startoftext|>" }],
    padding: { pad_token: "!" },
    model: {
      type: "BPE",
      unk_token: "<|endoftext|>",
      end_of_word_suffix: "</w>",
      vocab: { "a</w>": 0, b: 1, "<|startoftext|>": 5, "<|endoftext|>": 6 },
      merges: ["a b</w>", ["a", "b"]],
    },
  },
};

Deno.test("changed files of a tokenizer encode and decode any text, or are typed errors", async () => {
  const file = fc.constantFrom(...Object.keys(tokenizer)).chain((name) =>
    (name === "merges.txt" ? fc.string({ unit: "binary" }) : mutated(tokenizer[name])).map((text) => ({ name, text }))
  );
  await fuzz(fc.tuple(file, fc.string({ unit: "binary" })), async ([{ name, text }, prompt]) => {
    const texts = new Map(
      Object.entries(tokenizer).map(([path, value]) => [path, path === "merges.txt" ? value : JSON.stringify(value)]),
    );
    texts.set(name, text);
    if (name === "tokenizer.json") texts.delete("vocab.json");
    const files = Object.fromEntries([...texts].map(([path, text]) => [path, new TextEncoder().encode(String(text))]));
    try {
      const read = await CLIPTokenizer.fromPretrained(memoryTree(files, "tokenizer"));
      const ids = read.encode(`${prompt} ab <x> constructor`);
      assert(ids.every((id) => Number.isSafeInteger(id)));
      read.decode(ids);
    } catch (error) {
      assertTold(error, [CheckpointError]);
    }
  }, 1500);
});
