import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { CheckpointError } from "../../pipeline/errors.ts";
import { directoryTree } from "../../pipeline/checkpoint/source/disk.ts";
import type { ModelOrigin } from "../../pipeline/checkpoint/source/origin.ts";
import { saveSafetensors } from "../../pipeline/checkpoint/save.ts";
import { roundBfloat16 } from "../../pipeline/checkpoint/safetensors/decode.ts";
import { computedEntry } from "../../pipeline/checkpoint/safetensors/tensor_stream.ts";
import { openWeights } from "../../pipeline/checkpoint/safetensors/weight_files.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { saveFolder } from "../../pipeline/saving.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { loadGoldens } from "../goldens.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { goldens, referenceFolder } from "../paths.ts";
import { warningsOfAsync } from "../warnings.ts";

const parts = ["unet", "vae", "text_encoder"] as const;
const recorded = JSON.parse(await Deno.readTextFile(`${referenceFolder}/saved_folder.json`));

async function inTempFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function load(gpu: Gpu, model: string, edited = false): Promise<StableDiffusionModelEditingPipeline> {
  const pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/${model}`, { gpu });
  if (edited) await pipe.editModel("A pack of roses", "A pack of blue roses");
  return pipe;
}

async function draw(pipe: StableDiffusionPipeline): Promise<Float32Array> {
  const options = { numInferenceSteps: 2, generator: new TorchGenerator(3), outputType: "array" as const };
  return (await pipe.generate("a field of roses", options)).images;
}

async function drawSaved(gpu: Gpu, folder: string): Promise<Float32Array> {
  using pipe = await StableDiffusionPipeline.fromPretrained(folder, { gpu });
  return await draw(pipe);
}

async function copyFolder(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyFolder(`${from}/${name}`, `${to}/${name}`);
    else await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
  }
}

/** All files below a folder, by their paths. */
async function filesIn(folder: string, below = ""): Promise<string[]> {
  const files: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(`${folder}/${below}`)) {
    if (isDirectory) files.push(...await filesIn(folder, `${below}${name}/`));
    else files.push(below + name);
  }
  return files.sort();
}

async function weightsOf(folder: string, part: typeof parts[number]) {
  const baseName = part === "text_encoder" ? "model" : "diffusion_pytorch_model";
  return await openWeights(await directoryTree(`${folder}/${part}`), baseName);
}

for (const model of ["sd1-mini", "sd2-mini"] as const) {
  gpuTest(
    `${model}, edited or not, draws what the real diffusers draws from the folders that we saved`,
    async (gpu) => {
      const { tensors } = await loadGoldens(model);
      const { note } = await loadGoldens(model);
      const { tensors: references } = await loadGoldens("../reference/saved_folder");
      const { data, shape } = tensors.get("pipe.latents")!;
      using latents = Tensor.from(gpu, Float32Array.from(data), shape);
      const compare = async (pipe: StableDiffusionPipeline, kind: string, tolerance: number) => {
        const { images } = await pipe.generate(note.prompts, {
          latents,
          numInferenceSteps: recorded.steps,
          guidanceScale: recorded.guidance,
          outputType: "latent",
        });
        using drawn = images;
        assertClose(await drawn.data(), references.get(`${model}.${kind}`)!.data, tolerance, kind);
        assertEquals(pipe.scheduler.config._class_name, recorded.folders[`${model}.${kind}`].scheduler);
      };
      using plain = await load(gpu, model);
      await compare(plain, "plain", 1e-4);
      // E amplifies the text encoders' difference in rounding, so the tolerance is 2e-4.
      using edited = await load(gpu, model, true);
      await compare(edited, "edited", 2e-4);
      await inTempFolder(async (folder) => {
        await edited.savePretrained(`${folder}/f16`, { dtype: "f16" });
        using half = await StableDiffusionPipeline.fromPretrained(`${folder}/f16`, { gpu });
        await compare(half, "f16", 2e-4);
      });
      assert(recorded.folders[`${model}.edited`]["change from plain"] > 0.1, "the edit was to be seen");
    },
  );

  gpuTest(`${model} saved as a folder has the files, settings and bytes that it was loaded from`, async (gpu) => {
    await inTempFolder(async (folder) => {
      using pipe = await load(gpu, model);
      const saved = `${folder}/saved`;
      await pipe.savePretrained(saved);
      const source = (await filesIn(`${goldens}/${model}`)).filter((path) => !path.includes(".fp16."));
      assertEquals(await filesIn(saved), source);
      for (const path of source.filter((path) => path.endsWith("config.json") || path === "model_index.json")) {
        const json = async (root: string) => JSON.parse(await Deno.readTextFile(`${root}/${path}`));
        const [actual, expected] = [await json(saved), await json(`${goldens}/${model}`)];
        // The saved scheduler configuration includes its class's defaults, as in diffusers.
        for (const [key, value] of Object.entries(expected)) assertEquals(actual[key], value, `${path} ${key}`);
      }
      for (const part of parts) {
        using actual = await weightsOf(saved, part);
        using expected = await weightsOf(`${goldens}/${model}`, part);
        assertEquals(actual.metadata.format, "pt");
        assertEquals([...actual.tensors.keys()].sort(), [...expected.tensors.keys()].sort());
        for (const key of expected.tensors.keys()) assertEquals(await actual.read(key), await expected.read(key), key);
      }
      assertEquals(await drawSaved(gpu, saved), await draw(pipe));
    });
  });

  gpuTest(
    `an edited ${model} is saved with the edit in to_k and to_v alone, and draws without edits what it drew with them`,
    async (gpu) => {
      await inTempFolder(async (folder) => {
        using pipe = await load(gpu, model, true);
        await pipe.savePretrained(`${folder}/saved`);
        using actual = await weightsOf(`${folder}/saved`, "unet");
        using expected = await weightsOf(`${goldens}/${model}`, "unet");
        const changed: string[] = [];
        for (const key of expected.tensors.keys()) {
          const [a, b] = [await actual.read(key), await expected.read(key)];
          if (a.some((byte, i) => byte !== b[i])) changed.push(key);
        }
        const baked = pipe.crossAttentions.flatMap(({ path }) => [`${path}.to_k.weight`, `${path}.to_v.weight`]);
        assertEquals(changed.sort(), baked.sort());
        const edited = await draw(pipe);
        assertClose(await drawSaved(gpu, `${folder}/saved`), edited, 2e-4, "baked");

        const { warnings } = await warningsOfAsync(() => pipe.saveSingleFile(`${folder}/single.safetensors`));
        assertEquals(warnings.length, 1);
        for (const said of ["unet: attention_head_dim, norm_num_groups; vae: norm_num_groups", "save a folder"]) {
          assert(warnings[0].includes(said), warnings[0]);
        }
        using single = await StableDiffusionPipeline.fromSingleFile(`${folder}/single.safetensors`, {
          gpu,
          tokenizer: `${goldens}/${model}/tokenizer`,
        });
        for (const part of ["unet", "vae", "textEncoder"] as const) {
          const { projectionDim: _, ...config } = { projectionDim: 0, ...single[part].config };
          const { projectionDim: __, ...own } = { projectionDim: 0, ...pipe[part].config };
          assertEquals(config, own, part);
        }
        assertEquals(single.scheduler.config.prediction_type, pipe.scheduler.config.prediction_type);
        single.scheduler = pipe.scheduler;
        assertClose(await draw(single), edited, 2e-4, "single file");
        // What was loaded from a single file is saved as a folder in turn.
        await single.savePretrained(`${folder}/again`);
        assertClose(await drawSaved(gpu, `${folder}/again`), edited, 2e-4, "folder of a single file");
      });
    },
  );
}

gpuTest(
  "savePretrained with dtype f16 halves the files; shards read as one file; integers are not converted",
  async (gpu) => {
    await inTempFolder(async (folder) => {
      using pipe = await load(gpu, "sd1-mini");
      await pipe.savePretrained(`${folder}/f16`, { dtype: "f16" });
      for (const part of parts) {
        using half = await weightsOf(`${folder}/f16`, part);
        using full = await weightsOf(`${goldens}/sd1-mini`, part);
        for (const [key, { dtype, bytes }] of full.tensors) {
          assertEquals(
            [half.info(key).dtype, half.info(key).bytes],
            dtype === "F32" ? ["F16", bytes / 2] : [dtype, bytes],
          );
          assertEquals(await half.float32(key), Float32Array.from(new Float16Array(await full.float32(key))), key);
        }
      }
      const config = JSON.parse(await Deno.readTextFile(`${folder}/f16/text_encoder/config.json`));
      assertEquals(config.torch_dtype, "float16");

      await pipe.savePretrained(`${folder}/shards`, { maxShardBytes: 400_000 });
      const files = await filesIn(`${folder}/shards/unet`);
      assert(files.includes("diffusion_pytorch_model.safetensors.index.json"), files.join());
      for (const name of files.filter((name) => name.endsWith(".safetensors"))) {
        assert((await Deno.stat(`${folder}/shards/unet/${name}`)).size < 450_000, name);
      }
      assertEquals(await drawSaved(gpu, `${folder}/shards`), await draw(pipe));
    });
  },
);

gpuTest("an edited model of bf16 or f64 weights is saved in its own dtype, rounded to nearest", async (gpu) => {
  for (const [dtype, saved] of [["bf16", "BF16"], ["f64", "F64"]] as const) {
    await inTempFolder(async (folder) => {
      const source = `${folder}/source`;
      await copyFolder(`${goldens}/sd1-mini`, source);
      {
        using unet = await weightsOf(`${goldens}/sd1-mini`, "unet");
        const entries = [...unet.tensors].map(([key, { shape }]) =>
          computedEntry(key, shape, dtype, () => unet.float32(key))
        );
        await saveSafetensors(`${source}/unet/diffusion_pytorch_model.safetensors`, entries);
      }
      using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(source, { gpu });
      await pipe.editModel("A pack of roses", "A pack of blue roses");
      await pipe.savePretrained(`${folder}/own`);
      await pipe.savePretrained(`${folder}/f32`, { dtype: "f32" });
      using own = await weightsOf(`${folder}/own`, "unet");
      using wide = await weightsOf(`${folder}/f32`, "unet");
      using before = await weightsOf(source, "unet");
      let changed = 0;
      for (const [key, info] of own.tensors) {
        assertEquals([key, info.dtype], [key, saved]);
        const values = await wide.float32(key);
        const expected = dtype === "bf16" ? roundBfloat16(values) : Float64Array.from(values);
        assertEquals(await own.read(key), new Uint8Array(expected.buffer), key);
        if (values.some(((unedited) => (value, i) => value !== unedited[i])(await before.float32(key)))) changed++;
      }
      assertEquals(changed, 2 * pipe.crossAttentions.length, "the edit is in the saved weights");
    });
  }
});

gpuTest("a folder that is not empty is rejected, or with overwrite only its components are replaced", async (gpu) => {
  await inTempFolder(async (folder) => {
    using pipe = await load(gpu, "sd1-mini");
    const saved = `${folder}/saved`;
    await Deno.mkdir(saved);
    await pipe.savePretrained(saved); // an empty folder is no obstacle
    await Deno.writeTextFile(`${saved}/README.md`, "mine");
    await assertRejects(
      () => pipe.savePretrained(saved),
      CheckpointError,
      "choose another place, or set overwrite: true",
    );
    const before = await filesIn(saved);
    await pipe.editModel("A pack of roses", "A pack of blue roses");
    await pipe.savePretrained(saved, { overwrite: true });
    assertEquals(await filesIn(saved), before);
    assertEquals(await Deno.readTextFile(`${saved}/README.md`), "mine");
    assertClose(await drawSaved(gpu, saved), await draw(pipe), 2e-4, "replaced");
    assertEquals(await filesIn(folder), before.map((path) => `saved/${path}`), "nothing is left beside it");
  });
});

gpuTest("saving that fails midway leaves existing files unchanged and no new ones", async (gpu) => {
  await inTempFolder(async (folder) => {
    using pipe = await load(gpu, "sd1-mini");
    const saved = `${folder}/saved`;
    await pipe.savePretrained(saved);
    const before = await Promise.all((await filesIn(saved)).map(async (path) => ({
      path,
      bytes: await Deno.readFile(`${saved}/${path}`),
    })));
    const vae = Object.create(pipe.vae, { origin: { value: breaking(pipe.vae.origin!) } });
    const components = { ...pipe.components, vae };
    const none = { weight: () => undefined };
    await assertRejects(() => saveFolder(components, saved, none, { overwrite: true }), Error, "the disk is gone");
    await assertRejects(() => saveFolder(components, `${folder}/new`, none), Error, "the disk is gone");
    assertEquals(await filesIn(folder), before.map(({ path }) => `saved/${path}`));
    for (const { path, bytes } of before) assertEquals(await Deno.readFile(`${saved}/${path}`), bytes, path);
  });
});

/** An origin whose weights fail while they are read. */
function breaking(origin: ModelOrigin): ModelOrigin {
  return {
    ...origin,
    async openWeights() {
      const weights = await origin.openWeights();
      const read = weights.readRange.bind(weights);
      let reads = 0;
      weights.readRange = (...range) => ++reads > 20 ? Promise.reject(new Error("the disk is gone")) : read(...range);
      return weights;
    },
  };
}

gpuTest("a pipeline cannot be saved over its own source files, nor if they are unknown", async (gpu) => {
  await inTempFolder(async (folder) => {
    using first = await load(gpu, "sd1-mini", true);
    const saved = `${folder}/saved`;
    await first.savePretrained(saved);
    using pipe = await StableDiffusionPipeline.fromPretrained(saved, { gpu });
    await assertRejects(
      () => pipe.savePretrained(saved, { overwrite: true }),
      CheckpointError,
      "the pipeline's own weights are read from there",
    );
    const vae = Object.create(pipe.vae, { origin: { value: undefined } });
    await assertRejects(
      () => saveFolder({ ...pipe.components, vae }, `${folder}/new`, { weight: () => undefined }),
      CheckpointError,
      "Cannot save the vae",
    );
    assertEquals((await filesIn(folder)).filter((path) => !path.startsWith("saved/")), []);
  });
});

gpuTest("progress reports every byte and ends at the total", async (gpu) => {
  await inTempFolder(async (folder) => {
    using pipe = await load(gpu, "sd1-mini");
    let last = 0, total = 0;
    await pipe.savePretrained(`${folder}/saved`, {
      onProgress: (doneBytes, totalBytes) => {
        assert(doneBytes > last && doneBytes <= totalBytes);
        [last, total] = [doneBytes, totalBytes];
      },
    });
    assertEquals(last, total);
  });
});

gpuTest("a safety checker and its feature extractor are saved with the pipeline", async (gpu) => {
  await inTempFolder(async (folder) => {
    const copy = async (from: string, to: string) => {
      for (const path of await filesIn(from)) {
        await Deno.mkdir(`${to}/${path.split("/").slice(0, -1).join("/")}`, { recursive: true });
        await Deno.copyFile(`${from}/${path}`, `${to}/${path}`);
      }
    };
    await copy(`${goldens}/sd1-mini`, `${folder}/checked`);
    for (const part of ["safety_checker", "feature_extractor"]) {
      await copy(`${goldens}/${part}`, `${folder}/checked/${part}`);
    }
    const index = JSON.parse(await Deno.readTextFile(`${folder}/checked/model_index.json`));
    index.safety_checker = ["stable_diffusion", "StableDiffusionSafetyChecker"];
    index.feature_extractor = ["transformers", "CLIPImageProcessor"];
    index.requires_safety_checker = true;
    await Deno.writeTextFile(`${folder}/checked/model_index.json`, JSON.stringify(index));

    using pipe = await StableDiffusionPipeline.fromPretrained(`${folder}/checked`, { gpu });
    await pipe.savePretrained(`${folder}/saved`);
    assertEquals(JSON.parse(await Deno.readTextFile(`${folder}/saved/model_index.json`)), index);
    using again = await StableDiffusionPipeline.fromPretrained(`${folder}/saved`, { gpu });
    const verdicts = async (of: StableDiffusionPipeline) =>
      (await of.generate(["a rose", "a cat"], { numInferenceSteps: 1, generator: new TorchGenerator(1) }))
        .nsfwContentDetected;
    assertEquals(await verdicts(again), await verdicts(pipe));
  });
});
