/**
 * Flags that several commands share: which model, how to sample, and previews.
 *
 * @module
 */
import { SAMPLER_NAMES, SCHEDULE_NAMES } from "../schedulers/mod.ts";
import type { Flags, Values } from "./flag_types.ts";
import { xlFlags } from "./xl_flags.ts";

/** Flags that select a model and its adapters. */
export const modelFlags = {
  model: {
    kind: "text",
    alias: "m",
    placeholder: "MODEL",
    required: true,
    group: "Model",
    help: "model folder in diffusers' layout, .safetensors file, or OWNER/NAME on the Hugging Face hub",
    mayRead: true,
  },
  variant: { kind: "text", group: "Model", help: 'variant of the weight files; "fp16" for half precision' },
  revision: { kind: "text", group: "Model", defaultText: "main", help: "branch, tag or commit on the hub" },
  offline: { kind: "switch", group: "Model", help: "use only files in the hub's cache; make no network requests" },
  tokenizer: {
    kind: "text",
    placeholder: "DIR",
    group: "Model",
    defaultText: "the model's; for single files, downloaded from the hub",
    help: "folder of another tokenizer: vocab.json and merges.txt, or tokenizer.json",
    mayRead: true,
  },
  vae: {
    kind: "text",
    placeholder: "FILE|DIR",
    group: "Model",
    help: "another autoencoder: a .safetensors file (also TAESD), a folder, or OWNER/NAME on the hub",
    mayRead: true,
  },
  predictionType: {
    kind: "text",
    choices: ["epsilon", "v_prediction"],
    group: "Model",
    defaultText: "what the model says",
    help: "what the UNet predicts: noise (epsilon) or v",
  },
  ema: { kind: "switch", group: "Model", help: "use the averaged weights of a training checkpoint (single files)" },
  activations: {
    kind: "text",
    choices: ["f32", "f16"],
    default: "f32",
    group: "Model",
    help: "dtype of the UNet's activations; f16 halves their memory and rounds to 11 bits",
  },
  arithmetic: {
    kind: "text",
    choices: ["f32", "f16"],
    default: "f32",
    group: "Model",
    help: "arithmetic of the UNet and the VAE; f16 is faster on GPUs that have it, and rounds to 11 bits",
  },
  safetyChecker: {
    kind: "switch",
    default: true,
    group: "Model",
    help: "replace pictures that the model's safety checker flags by black ones",
  },
  lora: {
    kind: "texts",
    placeholder: "FILE[:WEIGHT]",
    group: "Model",
    help: "LoRA to apply, with an optional weight: style.safetensors:0.8",
    mayRead: true,
  },
  textualInversion: {
    kind: "texts",
    placeholder: "FILE",
    group: "Model",
    help: "textual inversion to load, so that prompts can use its token",
    mayRead: true,
  },
} as const satisfies Flags;

/** Flags of the sampling loop, named as in stable-diffusion.cpp. */
export const samplingFlags = {
  negativePrompt: {
    kind: "text",
    alias: "n",
    default: "",
    group: "Sampling",
    help: "what the pictures should not show",
  },
  promptSyntax: {
    kind: "text",
    choices: ["plain", "a1111"],
    default: "plain",
    group: "Sampling",
    help: "how prompts are read: a1111 knows (word:1.3), [word], BREAK, <lora:NAME:0.8> and long prompts",
  },
  loraDir: {
    kind: "text",
    placeholder: "DIR",
    group: "Sampling",
    help: "folder of the LoRAs that prompts name by <lora:NAME:WEIGHT> (with --prompt-syntax a1111)",
  },
  editNegativePrompt: {
    kind: "switch",
    default: true,
    group: "Sampling",
    help: "let edits act on the negative prompt, too",
  },
  width: {
    kind: "whole",
    alias: "W",
    min: 8,
    multipleOf: 8,
    group: "Sampling",
    defaultText: "the size that the model was trained on",
    help: "width in pixels",
  },
  height: {
    kind: "whole",
    alias: "H",
    min: 8,
    multipleOf: 8,
    group: "Sampling",
    defaultText: "the size that the model was trained on",
    help: "height in pixels",
  },
  steps: { kind: "whole", default: 20, min: 1, group: "Sampling", help: "number of denoising steps" },
  cfgScale: {
    kind: "number",
    defaultText: "7.5; 5 for SDXL",
    min: 0,
    group: "Sampling",
    help: "scale of classifier-free guidance; 1 or less turns guidance off",
  },
  samplingMethod: {
    kind: "text",
    alias: "sampler",
    placeholder: "NAME",
    group: "Sampling",
    help: `sampler: ${
      SAMPLER_NAMES.filter((name) => !name.endsWith(" karras")).join(", ")
    }; or a name of A1111, ComfyUI or diffusers. What --scheduler takes can follow, as in "dpm++2m karras"`,
    suggestions: SAMPLER_NAMES.filter((name) => !name.includes(" ")),
    defaultText: "the model's own",
  },
  scheduler: {
    kind: "text",
    placeholder: "NAME",
    group: "Sampling",
    help: `spacing of the sampler's noise levels: ${SCHEDULE_NAMES.join(", ")}`,
    defaultText: "the sampler's own",
  },
  seed: {
    kind: "seed",
    alias: "s",
    default: 42n,
    group: "Sampling",
    help: "seed of the first picture, 0 to 2^64 - 1; further pictures use the seeds that follow; -1 draws one",
  },
  batchSize: {
    kind: "whole",
    default: 4,
    min: 1,
    group: "Sampling",
    help: "pictures that are denoised and decoded at once; more need more memory; it does not change the pictures",
  },
  clipSkip: {
    kind: "whole",
    default: 0,
    min: 0,
    group: "Sampling",
    defaultText: "0, as diffusers; A1111's clip skip is one more",
    help: "number of final text encoder layers to skip",
  },
  vaeTiling: { kind: "switch", group: "Sampling", help: "decode large pictures in tiles, which needs less memory" },
  ...xlFlags,
} as const satisfies Flags;

/** Values of {@linkcode samplingFlags}. */
export type SamplingValues = Values<typeof samplingFlags>;

/** Those that decide what the pictures are. */
export type PictureValues = Omit<SamplingValues, "batchSize">;

/** Flags for previews during sampling. */
export const previewFlags = {
  preview: {
    kind: "text",
    placeholder: "FILE",
    group: "Sampling",
    help: "picture file to overwrite with a rough preview while sampling (colors fit Stable Diffusion's own VAE)",
  },
  previewVae: {
    kind: "text",
    placeholder: "FILE|DIR",
    group: "Sampling",
    help: "autoencoder to decode previews with, such as TAESD (default: none, as colors can be told from latents)",
    mayRead: true,
  },
  previewInterval: { kind: "whole", default: 5, min: 1, group: "Sampling", help: "steps between previews" },
} as const satisfies Flags;

/** Values of {@linkcode modelFlags}. */
export type ModelValues = Omit<Values<typeof modelFlags>, "model"> & { readonly model: string };

/** How firmly an edit keeps everything else: the regularization strength λ of TIME. */
export const lambdaFlag = {
  kind: "number",
  default: 0.1,
  above: 0,
  help: "regularization strength: larger values change everything else less",
} as const;
