/** Configuration that single files hold in their metadata. Needs no device. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { configToStore, misreadText, readStoredConfig } from "../../../../pipeline/checkpoint/ldm/stored_config.ts";
import { SingleFile } from "../../../../pipeline/checkpoint/ldm/single_file.ts";
import { inspectFile } from "../../../../pipeline/inspection.ts";
import { CheckpointError } from "../../../../pipeline/errors.ts";
import { fileOf, ldmEntries, miniConfig } from "./ldm_files.ts";

const impliedBy = async (model: "sd1-mini" | "sd2-mini") => {
  const options = { config: miniConfig[model], predictionType: "epsilon" } as const;
  using file = await SingleFile.open(await fileOf(await ldmEntries(model)), options);
  return file.configs();
};

for (const model of ["sd1-mini", "sd2-mini"] as const) {
  Deno.test(`${model}: nothing is stored of a configuration that its file implies`, async () => {
    const implied = await impliedBy(model);
    const { text_encoder_2: _, ...own } = implied;
    assertEquals(configToStore("f", own, implied), {});
    const { norm_eps: _eps, act_fn: _act, ...unet } = own.unet; // of the class's default
    const scheduler = { ...own.scheduler, _class_name: "EulerDiscreteScheduler", timestep_spacing: "linspace" };
    const text = { ...own.text_encoder, projection_dim: 7, architectures: ["X"], _name_or_path: "elsewhere" };
    assertEquals(configToStore("f", { ...own, unet, scheduler, text_encoder: text }, implied), {});
  });

  Deno.test(`${model}: each value that the layout implies is stored where it is another`, async () => {
    const implied = await impliedBy(model);
    const cases: [part: "unet" | "vae" | "text_encoder" | "scheduler", json: Record<string, unknown>][] = [
      ["unet", { attention_head_dim: 2 }],
      ["unet", { norm_num_groups: 4 }],
      ["unet", { norm_eps: 1e-6 }],
      ["unet", { freq_shift: 1 }],
      ["unet", { flip_sin_to_cos: false }],
      ["unet", { downsample_padding: 0 }],
      ["unet", { mid_block_scale_factor: 2 }],
      ["unet", { sample_size: 24 }],
      ["vae", { norm_num_groups: 4 }],
      ["vae", { scaling_factor: 0.5 }],
      ["vae", { force_upcast: false }],
      ["vae", { sample_size: 64 }],
      ["text_encoder", { num_attention_heads: 2 }],
      ["text_encoder", { layer_norm_eps: 1e-6 }],
      ["text_encoder", { eos_token_id: 5 }],
      ["text_encoder", { hidden_act: model === "sd1-mini" ? "gelu" : "quick_gelu" }],
      ["scheduler", { beta_schedule: "linear" }],
      ["scheduler", { beta_end: 0.02 }],
      ["scheduler", { num_train_timesteps: 500 }],
      ["scheduler", { prediction_type: "sample" }],
      ["scheduler", { rescale_betas_zero_snr: true }],
    ];
    for (const [part, json] of cases) {
      assertEquals(configToStore("f", { [part]: { ...implied[part], ...json } }, implied), { [part]: json });
    }
  });
}

Deno.test("stored configuration is read where it was stored, below the caller's own", async () => {
  const entries = await ldmEntries("sd1-mini");
  const stored = { unet: { norm_num_groups: 4, freq_shift: 1 }, scheduler: { beta_schedule: "linear" } };
  const source = await fileOf(entries, "f", { "bluerose.config": JSON.stringify(stored) });
  using file = await SingleFile.open(source, { config: { unet: { norm_num_groups: 8 } } });
  const { unet, scheduler } = file.configs();
  assertEquals([unet.norm_num_groups, unet.freq_shift, scheduler.beta_schedule], [8, 1, "linear"]);
});

Deno.test("the caller's prediction type comes before the stored one", async () => {
  const stored = JSON.stringify({ scheduler: { prediction_type: "sample" } });
  for (const [asked, read] of [[undefined, "sample"], ["v_prediction", "v_prediction"]] as const) {
    const source = await fileOf(await ldmEntries("sd1-mini"), "f", { "bluerose.config": stored });
    using file = await SingleFile.open(source, { config: miniConfig["sd1-mini"], predictionType: asked });
    assertEquals(file.configs().scheduler.prediction_type, read);
  }
});

Deno.test("what cannot be stored is refused with the remedy, and damaged metadata by its key", async () => {
  const implied = await impliedBy("sd1-mini");
  const { mid_block_type: _, ...unet } = implied.unet; // by default there is one, and null stands for none
  const without = { ...implied, unet: { ...unet, mid_block_type: null } };
  assertThrows(() => configToStore("f", { unet }, without), CheckpointError, "configuration of its unet");
  for (const text of ["{", "5", '{"unet": 5}', '{"vae": "x"}', "null"]) {
    const read = () => readStoredConfig({ name: "f", metadata: { "bluerose.config": text } });
    assertThrows(read, CheckpointError, "metadata's bluerose.config is malformed");
  }
  assertEquals(readStoredConfig({ name: "f", metadata: {} }), {});
});

Deno.test("metadata cannot state another structure than the tensors', nor crash a reader", async () => {
  const entries = await ldmEntries("sd1-mini"), own = miniConfig["sd1-mini"];
  const withStored = async (part: keyof typeof own, json: Record<string, unknown>) => {
    const stored = { ...own, [part]: { ...own[part], ...json } };
    return await fileOf(entries, "f", { "bluerose.config": JSON.stringify(stored) });
  };
  const structure = [
    ["unet", "down_block_types"],
    ["unet", "layers_per_block"],
    ["unet", "block_out_channels"],
    ["vae", "block_out_channels"],
    ["text_encoder", "hidden_size"],
  ] as const;
  for (const [part, key] of structure) {
    const source = await withStored(part, { [key]: 5 });
    await assertRejects(() => SingleFile.open(source), CheckpointError, `${part}.${key} must be one of `);
  }
  for (const value of [1e9, -1, null, "x"]) {
    const source = await withStored("text_encoder", { num_hidden_layers: value });
    await assertRejects(() => SingleFile.open(source), CheckpointError, "text_encoder.num_hidden_layers must be");
  }
  const values = [
    ["unet", "attention_head_dim"],
    ["unet", "norm_num_groups"],
    ["unet", "norm_eps"],
    ["unet", "sample_size"],
    ["vae", "scaling_factor"],
    ["text_encoder", "num_attention_heads"],
    ["text_encoder", "hidden_act"],
  ] as const;
  for (const [part, key] of values) {
    for (const value of [-1, 1e9, "x", {}, [null]]) {
      const { parts, problems } = await inspectFile(await withStored(part, { [key]: value }));
      const found = [...problems, ...parts.flatMap(({ problems }) => problems)];
      const isRead = key.endsWith("_eps") || key === "scaling_factor"; // any number above 0
      assert(found.length > 0 || (isRead && typeof value === "number"), `${key} ${JSON.stringify(value)}`);
    }
  }
});

Deno.test("other programs misread what changes pictures of a given size", () => {
  assertEquals(misreadText({ unet: { sample_size: 16 }, vae: { force_upcast: false } }), "");
  assertEquals(
    misreadText({ unet: { sample_size: 16, norm_eps: 1 }, vae: { scaling_factor: 1 } }),
    "unet: norm_eps; vae: scaling_factor",
  );
});
