/** Models related to Stable Diffusion that are not supported: each is named, with what to do. */

import { assert, assertRejects } from "@std/assert";
import { Gpu } from "../../../engine/gpu.ts";
import { SingleFile } from "../../../pipeline/checkpoint/ldm/single_file.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import { type FileTree, memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { CheckpointError, ConfigError } from "../../../pipeline/errors.ts";
import { inspectFile, inspectFolder, problemsOf } from "../../../pipeline/inspection.ts";
import { openPipeline } from "../../../pipeline/open_pipeline.ts";
import { goldens } from "../../paths.ts";
import { fileOf, zeros } from "./ldm/ldm_files.ts";

const mini = await directoryTree(`${goldens}/sdxl-mini`);

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** The folder of sdxl-mini as far as configurations go, with one of them changed. */
async function folderWith(file: "model_index.json" | "unet/config.json", changes: object): Promise<FileTree> {
  const parts: Record<string, Uint8Array<ArrayBuffer>> = {};
  const weights = ["text_encoder", "text_encoder_2"].flatMap((
    part,
  ) => [`${part}/config.json`, `${part}/model.safetensors`]);
  const vocabularies = ["tokenizer", "tokenizer_2"].flatMap((part) => [`${part}/vocab.json`, `${part}/merges.txt`]);
  for (const path of ["model_index.json", "scheduler/scheduler_config.json", ...weights, ...vocabularies]) {
    parts[path] = await Deno.readFile(`${goldens}/sdxl-mini/${path}`);
  }
  parts[file] = json({ ...await mini.readJson(file) as object, ...changes });
  return memoryTree(parts, "model");
}

/** What each kind of pipeline is called. */
const pipelines: Readonly<Record<string, string>> = {
  StableDiffusionXLImg2ImgPipeline: "an SDXL refiner",
  StableDiffusionXLInpaintPipeline: "an SDXL inpainting model",
  StableDiffusionXLInstructPix2PixPipeline: "an SDXL instruct-pix2pix model",
  StableDiffusionXLControlNetPipeline: "an SDXL ControlNet",
  StableDiffusionInpaintPipeline: "an inpainting model",
  StableDiffusion3Pipeline: "Stable Diffusion 3",
  FluxPipeline: "Flux",
  PixArtSigmaPipeline: "PixArt",
  KandinskyV22Pipeline: "Kandinsky",
  StableCascadeDecoderPipeline: "Stable Cascade",
  IFPipeline: "DeepFloyd IF",
  AuraFlowPipeline: "a diffusion transformer",
  StableVideoDiffusionPipeline: "moving pictures",
};

Deno.test("folders of related pipelines are named by their class, with what to load instead", async () => {
  using gpu = Gpu.null();
  for (const [_class_name, called] of Object.entries(pipelines)) {
    const folder = await folderWith("model_index.json", { _class_name });
    const { message } = await assertRejects(() => openPipeline(folder, { gpu }), ConfigError);
    assert(message.includes(`(this is ${called}`) || message.includes(called), message);
    assert(message.includes("load a base model of Stable Diffusion 1.x, 2.x or XL instead"), message);
    const [problem] = problemsOf(await inspectFolder(folder));
    assert(problem.includes(called), problem);
  }
});

Deno.test("a folder of SDXL whose UNet takes other channels is named by them", async () => {
  using gpu = Gpu.null();
  for (const [in_channels, called] of [[8, "an instruct-pix2pix model of SDXL"], [9, "an inpainting model of SDXL"]]) {
    const folder = await folderWith("unet/config.json", { in_channels });
    const { message } = await assertRejects(() => openPipeline(folder, { gpu }), ConfigError);
    assert(message.includes(`this is ${called}; load a base model`), message);
  }
});

Deno.test("a folder of one part is named by its class", async () => {
  using gpu = Gpu.null();
  for (
    const [config, said] of [
      [
        { _class_name: "ControlNetModel" },
        "ControlNetModel, and no model_index.json: only LoRAs and textual inversions",
      ],
      [{ _class_name: "T2IAdapter" }, "T2IAdapter, and no model_index.json: only LoRAs"],
      [
        { _class_name: "FluxTransformer2DModel" },
        "FluxTransformer2DModel, and no model_index.json: load the folder of",
      ],
      [
        { architectures: ["CLIPTextModel"] },
        "CLIPTextModel, and no model_index.json: load the folder of the whole model",
      ],
    ] as const
  ) {
    const folder = memoryTree({ "config.json": json(config) }, "part");
    const { message } = await assertRejects(() => openPipeline(folder, { gpu }), CheckpointError);
    assert(message.includes(said), message);
  }
});

/** Tensors that tell what a file is, its name in messages, and what they advise. */
const files: readonly (readonly [called: string, keys: readonly string[], advice: string])[] = [
  ["a Flux checkpoint", ["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "complete checkpoint"],
  ["transformer of a Flux", ["double_blocks.0.img_attn.qkv.weight"], "complete checkpoint"],
  ["transformer of a Flux", ["single_transformer_blocks.0.attn.to_q.weight"], "complete checkpoint"],
  ["a Stable Diffusion 3", ["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"], "complete checkpoint"],
  // with all text encoders, in ComfyUI's names
  [
    "a Stable Diffusion 3",
    ["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "text_encoders.clip_g.transformer.x.weight"],
    "complete checkpoint",
  ],
  ["a PixArt checkpoint", ["blocks.0.cross_attn.q_linear.weight", "y_embedder.y_proj.fc1.weight"], "complete"],
  ["a PixArt checkpoint", ["adaln_single.linear.weight", "transformer_blocks.0.attn1.to_q.weight"], "complete"],
  ["a Kandinsky checkpoint", ["add_embedding.image_norm.weight", "down_blocks.0.resnets.0.conv1.weight"], "complete"],
  ["Stable Cascade", ["clip_txt_pooled_mapper.weight", "down_blocks.0.0.channelwise.0.weight"], "complete"],
  ["a denoiser other than", ["model.diffusion_model.double_layers.0.attn.w1q.weight"], "complete checkpoint"],
  [
    "an SDXL refiner",
    ["model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.0.model.ln_final.weight"],
    "base model",
  ],
  [
    "ComfyUI's own names of its text encoders",
    ["model.diffusion_model.input_blocks.0.0.weight", "text_encoders.clip_g.transformer.text_model.x.weight"],
    "save it in the original layout",
  ],
  [
    "ComfyUI's own names of its text encoders",
    ["model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.clip_g.transformer.text_model.x.weight"],
    "CheckpointSave",
  ],
  ["a ControlNet", ["controlnet_mid_block.weight"], "only LoRAs and textual inversions"],
  ["a ControlNet-LLLite", ["lllite_unet_x.down.0.weight"], "only LoRAs and textual inversions"],
  ["a UNet alone", ["down_blocks.0.resnets.0.conv1.weight"], "complete checkpoint"],
  ["holds no UNet", ["anything.weight"], "complete checkpoint"],
];

Deno.test("files of related models are named by their tensors, with what to do", async () => {
  for (const [called, keys, advice] of files) {
    const file = () => fileOf(keys.map((key) => zeros(key, [4, 4])), "file.safetensors");
    const { message } = await assertRejects(async () => await SingleFile.open(await file()), CheckpointError);
    assert(message.includes(called) && message.includes(advice), message);
    const { description, problems, parts } = await inspectFile(await file());
    assert(description.includes(called), description);
    const [problem] = problemsOf({ description, problems, parts, name: "", notes: [] });
    assert(problem.includes(advice), problem);
  }
});
