import { assert, assertEquals, assertObjectMatch, assertRejects } from "@std/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { CheckpointError } from "../../pipeline/errors.ts";
import { type EditingDefaults, StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { predictsNoise } from "../../pipeline/single_file.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { DDIMScheduler, TorchGenerator } from "../../schedulers/mod.ts";
import { gpuTest } from "../gpu.ts";
import { SingleFile } from "../../pipeline/checkpoint/ldm/single_file.ts";
import { fileOf, ldmEntries, miniConfig, zeros } from "./checkpoint/ldm/ldm_files.ts";
import { goldens, pocket } from "../paths.ts";

async function draw(pipe: StableDiffusionPipeline): Promise<Float32Array> {
  const options = { numInferenceSteps: 3, generator: new TorchGenerator(7), outputType: "array" as const };
  return (await pipe.generate("a field of roses", options)).images;
}

for (const model of ["sd1-mini", "sd2-mini"] as const) {
  gpuTest(`a single file of ${model} draws the same bits as its folder`, async (gpu) => {
    using folder = await StableDiffusionPipeline.fromPretrained(`${goldens}/${model}`, { gpu });
    const tokenizer = `${goldens}/${model}/tokenizer`;
    const predictionType = model === "sd1-mini" ? "epsilon" : "v_prediction";
    using single = await StableDiffusionPipeline.fromSingleFile(await fileOf(await ldmEntries(model)), {
      gpu,
      tokenizer,
      config: miniConfig[model],
      predictionType,
    });
    assertEquals(single.scheduler.config._class_name, "PNDMScheduler");
    assertEquals(single.scheduler.config.prediction_type, predictionType);
    for (const pipe of [folder, single]) {
      pipe.scheduler = DDIMScheduler.fromConfig(pipe.scheduler.config, { clip_sample: false });
    }
    assertEquals(await draw(single), await draw(folder));
  });
}

gpuTest(
  "an editing pipeline of a single file has the settings of its call, and those of the plain one",
  async (gpu) => {
    const options = {
      gpu,
      tokenizer: `${goldens}/sd1-mini/tokenizer`,
      config: miniConfig["sd1-mini"],
      predictionType: "epsilon",
      safetyChecker: null,
      withToK: false,
    } as const;
    const changed: EditingDefaults & typeof options = { ...options };
    const loading = StableDiffusionModelEditingPipeline.fromSingleFile(
      await fileOf(await ldmEntries("sd1-mini")),
      changed,
    );
    Object.assign(changed, { withToK: true });
    using pipe = await loading;
    await pipe.editModel("a rose", "a blue rose");
    assertEquals(pipe.edits.entries[0].edit.recipe.withToK, false);
    const { withToK: _, ...plain } = options;
    using without = await StableDiffusionPipeline.fromSingleFile(await fileOf(await ldmEntries("sd1-mini")), plain);
    assertEquals([pipe.requiresSafetyChecker, without.requiresSafetyChecker], [false, false]);
    for (const requiresSafetyChecker of [true, false]) {
      const given = { gpu, requiresSafetyChecker };
      using told = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, given);
      assertEquals(told.requiresSafetyChecker, requiresSafetyChecker);
    }
  },
);

gpuTest("the prediction type is determined by running the UNet if its file does not give it", async (gpu) => {
  // The pocket model was trained to predict noise. The mini models have random weights.
  assertEquals(await askPrediction(gpu, pocket), true);
  assertEquals(await askPrediction(gpu, `${goldens}/sd2-mini`), false);
  using pipe = await StableDiffusionPipeline.fromSingleFile(await fileOf(await ldmEntries("sd2-mini")), {
    gpu,
    tokenizer: `${goldens}/sd2-mini/tokenizer`,
    config: miniConfig["sd2-mini"],
  });
  assertEquals(pipe.scheduler.config.prediction_type, "v_prediction");
});

async function askPrediction(gpu: Gpu, folder: string): Promise<boolean> {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder, { gpu });
  return await predictsNoise(pipe.unet, pipe.textEncoder, pipe.tokenizer);
}

gpuTest("a single file without a tokenizer is an error with advice, and loaded parts are freed", async (gpu) => {
  const cacheDir = await Deno.makeTempDir();
  try {
    const file = await fileOf(await ldmEntries("sd1-mini"));
    const options = { gpu, cacheDir, localFilesOnly: true, config: miniConfig["sd1-mini"] };
    await assertRejects(
      () => StableDiffusionPipeline.fromSingleFile(file, options),
      CheckpointError,
      "set the option tokenizer to a folder with vocab.json and merges.txt",
    );
    // Without the mini models' settings, the inferred configuration does not match the weights.
    const { unet: _, ...config } = miniConfig["sd1-mini"];
    await assertRejects(
      () =>
        StableDiffusionPipeline.fromSingleFile(file, {
          ...options,
          config,
          tokenizer: `${goldens}/sd1-mini/tokenizer`,
        }),
      CheckpointError,
      "32",
    );
  } finally {
    await Deno.remove(cacheDir, { recursive: true });
  }
});

gpuTest(
  "a v-prediction file with zero terminal SNR stays one when saved as a folder or file; surplus tensors are reported once",
  async (gpu) => {
    const markers = [zeros("v_pred", [0], "F32"), zeros("ztsnr", [0], "F32")];
    const surplus = [zeros("alphas_cumprod", [1000], "F32"), zeros("model.diffusion_model.surprise.bias", [4])];
    const source = await fileOf([...await ldmEntries("sd1-mini"), ...markers, ...surplus], "marked.safetensors");
    const config = miniConfig["sd1-mini"];
    const place = await Deno.makeTempDir();
    const { warn } = console;
    const warnings: string[] = [];
    console.warn = (...parts: unknown[]) => void warnings.push(parts.join(" "));
    try {
      const tokenizer = `${goldens}/sd1-mini/tokenizer`;
      using pipe = await StableDiffusionPipeline.fromSingleFile(source, { gpu, tokenizer, config });
      assertEquals(warnings.length, 1);
      for (const said of ["marked.safetensors", "2 tensors", "alphas_cumprod", "surprise"]) {
        assert(warnings[0].includes(said), warnings[0]);
      }
      const wanted = { prediction_type: "v_prediction", rescale_betas_zero_snr: true, timestep_spacing: "trailing" };
      assertObjectMatch(pipe.scheduler.config as unknown as Record<string, unknown>, wanted);
      await pipe.savePretrained(`${place}/folder`);
      await pipe.saveSingleFile(`${place}/file.safetensors`);
      const saved = JSON.parse(await Deno.readTextFile(`${place}/folder/scheduler/scheduler_config.json`));
      assertObjectMatch(saved, wanted);
      using again = await SingleFile.open(`${place}/file.safetensors`, { config });
      assertObjectMatch(again.configs().scheduler, wanted);
      assertEquals(again.surplus(), []);
    } finally {
      console.warn = warn;
      await Deno.remove(place, { recursive: true });
    }
  },
);
