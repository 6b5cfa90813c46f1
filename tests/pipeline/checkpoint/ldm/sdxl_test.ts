import { assert, assertEquals, assertRejects } from "@std/assert";
import type { ByteSource } from "../../../../pipeline/checkpoint/source/byte_source.ts";
import { directoryTree, fileSource } from "../../../../pipeline/checkpoint/source/disk.ts";
import { SingleFile, type SingleFilePart } from "../../../../pipeline/checkpoint/ldm/single_file.ts";
import { SafetensorsFile } from "../../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { openWeights } from "../../../../pipeline/checkpoint/safetensors/weight_files.ts";
import { CheckpointError } from "../../../../pipeline/errors.ts";
import { inspectFile, problemsOf } from "../../../../pipeline/inspection.ts";
import { StableDiffusionXLModelEditingPipeline } from "../../../../pipeline/model_editing_xl.ts";
import { openPipeline } from "../../../../pipeline/open_pipeline.ts";
import { StableDiffusionPipeline } from "../../../../pipeline/stable_diffusion.ts";
import { StableDiffusionXLPipeline } from "../../../../pipeline/stable_diffusion_xl.ts";
import { gpuTest } from "../../../gpu.ts";
import { goldens, referenceFolder } from "../../../paths.ts";
import { withoutWarnings } from "../../../warnings.ts";
import { fileOf, type Places, zeros } from "./ldm_files.ts";

const folder = `${goldens}/sdxl-mini`;
const parts = ["unet", "vae", "text_encoder", "text_encoder_2"] as const;
const tokenizer = `${folder}/tokenizer`;
/** Where diffusers' conversion finds each tensor. */
const places: Record<SingleFilePart, Places> = JSON.parse(
  await Deno.readTextFile(`${referenceFolder}/sdxl_single_file.json`),
);

async function withSaved(gpu: Parameters<Parameters<typeof gpuTest>[1]>[0], body: (path: string) => Promise<void>) {
  const directory = await Deno.makeTempDir();
  try {
    using pipe = await StableDiffusionXLPipeline.fromPretrained(folder, { gpu });
    using _ = withoutWarnings(); // of configuration that other programs do not read
    await pipe.saveSingleFile(`${directory}/sdxl.safetensors`);
    await body(`${directory}/sdxl.safetensors`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

gpuTest(
  "a saved SDXL file has the keys and rows that the real diffusers reads, and its parts the folder's bytes",
  async (gpu) => {
    await withSaved(gpu, async (path) => {
      using raw = await SafetensorsFile.open(await fileSource(path));
      using file = await SingleFile.open(path);
      assertEquals([file.family, file.predictionType, file.surplus()], ["sdxl", "epsilon", []]);
      const used = new Set<string>();
      for (const part of parts) {
        const tree = await directoryTree(`${folder}/${part}`);
        using own = await openWeights(tree, part.startsWith("text") ? "model" : "diffusion_pytorch_model");
        const view = file.part(part);
        assertEquals([...view.tensors.keys()].sort(), Object.keys(places[part]).sort(), part);
        for (const [key, place] of Object.entries(places[part])) {
          const [name] = place.split(" from row ");
          assert(raw.tensors.has(name), `${part}: ${name}`);
          used.add(name);
          assertEquals(view.info(key).shape, own.info(key).shape, key);
          assertEquals(await view.read(key), await own.read(key), key);
        }
      }
      assertEquals([...raw.tensors.keys()].filter((key) => !used.has(key)), []);
    });
  },
);

gpuTest("an SDXL file draws the bytes of its folder, is edited, and is opened as what it is", async (gpu) => {
  await withSaved(gpu, async (path) => {
    const options = { generator: 7, numInferenceSteps: 2, height: 32, width: 32, outputType: "array" } as const;
    using folderPipe = await StableDiffusionXLModelEditingPipeline.fromPretrained(folder, { gpu });
    using filePipe = await openPipeline(path, { gpu, tokenizer });
    assert(filePipe instanceof StableDiffusionXLModelEditingPipeline);
    const { tokenizer2 } = filePipe as StableDiffusionXLModelEditingPipeline;
    assertEquals(tokenizer2.padTokenId, folderPipe.tokenizer2.padTokenId);
    assertEquals(filePipe.scheduler.constructor, folderPipe.scheduler.constructor);
    for (const pipe of [folderPipe, filePipe]) await pipe.editModel("A pack of roses", "A pack of blue roses");
    const [one, other] = [await folderPipe.generate("a rose", options), await filePipe.generate("a rose", options)];
    assertEquals(other.images, one.images);
    await assertRejects(
      () => StableDiffusionPipeline.fromSingleFile(path, { gpu, tokenizer }),
      CheckpointError,
      "it is SDXL; load it with a StableDiffusionXLPipeline",
    );
    const inspection = await inspectFile(await fileSource(path));
    assertEquals(problemsOf(inspection), []);
    assertEquals(inspection.description, "an SDXL checkpoint (single file)");
    assertEquals(inspection.parts.map(({ kind }) => kind), [
      "UNet2DConditionModel",
      "AutoencoderKL",
      "CLIPTextModel",
      "CLIPTextModelWithProjection",
    ]);
  });
});

Deno.test("the published SDXL's shapes give its configuration", async () => {
  const unet = (key: string, ...shape: number[]) => zeros(`model.diffusion_model.${key}`, shape);
  const levels = [[320, 0], [640, 2], [1280, 10]];
  const blocks = levels.flatMap(([width, depth], level) =>
    [0, 1].flatMap((layer) => {
      const block = `input_blocks.${1 + 3 * level + layer}`;
      return [
        unet(`${block}.0.out_layers.3.weight`, width, 1),
        ...(depth > 0 ? [unet(`${block}.1.norm.weight`, width), unet(`${block}.1.proj_in.weight`, width, 1)] : []),
        ...Array.from(
          { length: depth },
          (_, i) => unet(`${block}.1.transformer_blocks.${i}.attn2.to_k.weight`, 1, 2048),
        ),
      ];
    })
  );
  const second = "conditioner.embedders.1.model.";
  const file = await fileOf([
    ...blocks,
    unet("input_blocks.0.0.weight", 320, 4),
    unet("input_blocks.3.0.op.weight", 1),
    unet("input_blocks.6.0.op.weight", 1),
    unet("middle_block.0.in_layers.0.weight", 1),
    unet("label_emb.0.0.weight", 1280, 2816),
    unet("out.2.weight", 4, 320),
    zeros("conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight", [49408, 1]),
    zeros(`${second}text_projection`, [1280, 1280]),
    zeros("first_stage_model.decoder.conv_in.weight", [1]),
  ]);
  using single = await SingleFile.open(file, { without: ["vae", "text_encoder", "text_encoder_2"] });
  const { unet: found, scheduler } = single.configs();
  const { attention_head_dim, down_block_types, transformer_layers_per_block, addition_time_embed_dim } = found;
  assertEquals([single.family, attention_head_dim, transformer_layers_per_block, addition_time_embed_dim], [
    "sdxl",
    [5, 10, 20],
    [1, 2, 10],
    256,
  ]);
  assertEquals(down_block_types, ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]);
  assertEquals([found.sample_size, found.cross_attention_dim, found.projection_class_embeddings_input_dim], [
    128,
    2048,
    2816,
  ]);
  assertEquals([scheduler._class_name, scheduler.timestep_spacing], ["EulerDiscreteScheduler", "leading"]);
});

Deno.test("relatives of SDXL are named and refused", async () => {
  const base = (channels: number) => [
    zeros("model.diffusion_model.input_blocks.0.0.weight", [320, channels, 3, 3]),
    zeros("model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", [1, 2048]),
    zeros("model.diffusion_model.label_emb.0.0.weight", [1280, 2816]),
    zeros("conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight", [77, 1]),
    zeros("conditioner.embedders.1.model.positional_embedding", [77, 1]),
    zeros("first_stage_model.decoder.conv_in.weight", [1]),
  ];
  const refused = async (file: Promise<ByteSource>, message: string) => {
    await assertRejects(async () => await SingleFile.open(await file), CheckpointError, message);
  };
  await refused(fileOf(base(9)), "an inpainting model of SDXL");
  await refused(fileOf(base(8)), "an instruct-pix2pix model of SDXL");
  const refiner = base(4).filter(({ name }) => !name.startsWith("conditioner.embedders."));
  await refused(
    fileOf([...refiner, zeros("conditioner.embedders.0.model.positional_embedding", [77, 1])]),
    "an SDXL refiner checkpoint",
  );
  await refused(fileOf([...base(4), zeros("control_model.input_hint_block.0.weight", [1])]), "a ControlNet");
  await refused(fileOf([zeros("controlnet_cond_embedding.conv_in.weight", [1])]), "a ControlNet");
  await refused(
    fileOf(base(4).filter(({ name }) => !name.startsWith("conditioner.embedders.0."))),
    "without one of its text encoders",
  );
  await refused(fileOf(refiner), "an SDXL checkpoint without its text encoders");
  await refused(fileOf(base(4).filter(({ name }) => !name.startsWith("first_stage_model"))), "without its autoencoder");
});
