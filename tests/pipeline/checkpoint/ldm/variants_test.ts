import { assert, assertEquals, assertRejects } from "@std/assert";
import { SingleFile, type SingleFileOptions } from "../../../../pipeline/checkpoint/ldm/single_file.ts";
import { bytesSource } from "../../../../pipeline/checkpoint/source/byte_source.ts";
import { type TensorEntry, writeSafetensors } from "../../../../pipeline/checkpoint/safetensors/writer.ts";
import { CheckpointError } from "../../../../pipeline/errors.ts";
import { fileOf, ldmEntries, miniConfig, placesOf, zeros } from "./ldm_files.ts";

const config = miniConfig["sd1-mini"];
const entries = await ldmEntries("sd1-mini");
const renamed = (from: string, to: string, list: readonly TensorEntry[] = entries) =>
  list.map((entry) => entry.name.startsWith(from) ? { ...entry, name: to + entry.name.slice(from.length) } : entry);

/** A file in memory with metadata. */
async function fileWith(list: readonly TensorEntry[], metadata: Record<string, string>) {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  await writeSafetensors(list, (chunk) => void chunks.push(chunk.slice()), { metadata });
  return bytesSource(new Uint8Array(await new Blob(chunks).arrayBuffer()), "model.safetensors");
}

const clip = "cond_stage_model.transformer.";
const spellings: [tool: string, list: readonly TensorEntry[]][] = [
  ["clip_l of ComfyUI", renamed(clip, "clip_l.transformer.")],
  ["cond_stage_model.clip_l", renamed(clip, "cond_stage_model.clip_l.transformer.")],
  ["text_encoders.clip_l", renamed(clip, "text_encoders.clip_l.transformer.")],
  ["a clip_l without transformer", renamed(clip, "text_encoders.clip_l.")],
  ["sgm's conditioner", renamed(clip, "conditioner.embedders.0.transformer.")],
  [
    "vae and a bare denoiser",
    renamed("first_stage_model.", "vae.", renamed("model.diffusion_model.", "diffusion_model.")),
  ],
];

for (const [tool, list] of spellings) {
  Deno.test(`a single file with the prefixes of ${tool} reads the same`, async () => {
    using file = await SingleFile.open(await fileOf(list), { config });
    using plain = await SingleFile.open(await fileOf(entries), { config });
    assertEquals(file.configs(), plain.configs());
    for (const part of ["unet", "vae", "text_encoder"] as const) {
      const view = file.part(part);
      assertEquals([...view.tensors.keys()].sort(), Object.keys(placesOf("sd1-mini", part)).sort());
      const key = [...view.tensors.keys()].at(-1)!;
      assertEquals(await view.read(key), await plain.part(part).read(key));
    }
    assertEquals(file.surplus(), []);
  });
}

Deno.test("a 2.x file with sgm's prefix is no SDXL refiner; one with transformers' keys has 23 layers and gelu", async () => {
  const sd2 = await ldmEntries("sd2-mini");
  const options = { config: miniConfig["sd2-mini"] };
  using file = await SingleFile.open(
    await fileOf(renamed("cond_stage_model.model.", "conditioner.embedders.0.model.", sd2)),
    options,
  );
  assertEquals(file.family, "sd2");
  assertEquals(
    [...file.part("text_encoder").tensors.keys()].sort(),
    Object.keys(placesOf("sd2-mini", "text_encoder")).sort(),
  );
  const wide = entries.map((entry) => entry.name.endsWith("attn2.to_k.weight") ? zeros(entry.name, [8, 1024]) : entry);
  using other = await SingleFile.open(await fileOf(renamed(clip, "text_encoders.clip_h.transformer.", wide)));
  assertEquals([other.family, other.configs().text_encoder.hidden_act], ["sd2", "gelu"]);
});

const marked: [said: string, list: TensorEntry[], metadata: Record<string, string>, type: string, zsnr: boolean][] = [
  ["nothing", [], {}, "epsilon", false],
  ["v_pred", [zeros("v_pred", [0], "F32")], {}, "v_prediction", false],
  ["v_pred and ztsnr", [zeros("v_pred", [0], "F32"), zeros("ztsnr", [0], "F32")], {}, "v_prediction", true],
  ["ztsnr of a model that predicts noise", [zeros("ztsnr", [0], "F32")], {}, "epsilon", false],
  ["Stability's model specification", [], { "modelspec.prediction_type": "v" }, "v_prediction", false],
  ["its epsilon", [], { "modelspec.prediction_type": "epsilon" }, "epsilon", false],
  ["kohya's metadata", [], { ss_v_parameterization: "True", ss_zero_terminal_snr: "True" }, "v_prediction", true],
  ["kohya's False", [], { ss_v_parameterization: "False" }, "epsilon", false],
];

for (const [said, list, metadata, type, zsnr] of marked) {
  Deno.test(`what a 1.x file predicts, told by ${said}: ${type}${zsnr ? " with zero terminal SNR" : ""}`, async () => {
    using file = await SingleFile.open(await fileWith([...entries, ...list], metadata), { config });
    assertEquals(file.predictionType, type);
    const { scheduler } = file.configs();
    assertEquals(scheduler.prediction_type, type);
    assertEquals(
      [scheduler.rescale_betas_zero_snr, scheduler.timestep_spacing],
      zsnr ? [true, "trailing"] : [undefined, undefined],
    );
    assertEquals(file.surplus(), []);
  });
}

Deno.test("the caller's predictionType takes precedence over the file's markers", async () => {
  const options: SingleFileOptions = { config, predictionType: "epsilon" };
  using file = await SingleFile.open(await fileOf([...entries, zeros("v_pred", [0], "F32")]), options);
  assertEquals(file.configs().scheduler.prediction_type, "epsilon");
});

Deno.test("the ema option reads the averaged UNet; the error names missing tensors", async () => {
  const prefix = "model.diffusion_model.";
  const averaged = entries.filter(({ name }) => name.startsWith(prefix)).map((entry) => ({
    ...zeros(entry.name, entry.shape, entry.dtype),
    name: `model_ema.${entry.name.slice("model.".length).replaceAll(".", "")}`,
  }));
  const both = [...entries, ...averaged];
  using file = await SingleFile.open(await fileOf(both), { config, ema: true });
  using plain = await SingleFile.open(await fileOf(both), { config });
  const key = "mid_block.resnets.0.conv1.weight";
  assert((await file.part("unet").float32(key)).every((value) => value === 0));
  assert((await plain.part("unet").float32(key)).some((value) => value !== 0));
  assertEquals([...file.part("unet").tensors.keys()].sort(), [...plain.part("unet").tensors.keys()].sort());
  assertEquals([file.surplus().length, plain.surplus().length], [0, averaged.length]);
  const open = async (list: TensorEntry[]) => await SingleFile.open(await fileOf(list), { config, ema: true });
  await assertRejects(() => open(entries), CheckpointError, "it has none (no model_ema.…)");
  await assertRejects(() => open([...entries, ...averaged.slice(1)]), CheckpointError, `it has no ${averaged[0].name}`);
});

Deno.test("tensors outside the model, such as leftovers of a ControlNet, are reported as surplus", async () => {
  const extras = [
    zeros("alphas_cumprod", [1000], "F32"),
    zeros("model_ema.decay", []),
    zeros("cond_stage_model.logit_scale", []),
    zeros("cond_stage_model.transformer.text_model.embeddings.position_ids", [1, 77], "I64"),
    zeros("first_stage_model.loss.logvar", []),
    zeros("control_model.time_embed.0.bias", [4]),
  ];
  using file = await SingleFile.open(await fileOf([...entries, ...extras]), { config });
  assertEquals(file.surplus().sort(), extras.map(({ name }) => name).sort());
  const control = zeros("control_model.input_hint_block.0.weight", [16, 3, 3, 3]);
  await assertRejects(
    async () => await SingleFile.open(await fileOf([...entries, control])),
    CheckpointError,
    "ControlNet",
  );
});
