/** Models that are saved with LoRAs: against the changes that LyCORIS and PEFT compute. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { openWeights } from "../../../pipeline/checkpoint/safetensors/weight_files.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import type { EditingPipeline } from "../../../pipeline/editing_pipeline.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { CheckpointError } from "../../../pipeline/errors.ts";
import { openPipeline } from "../../../pipeline/open_pipeline.ts";
import { StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { DDIMScheduler, TorchGenerator } from "../../../schedulers/mod.ts";
import { loadGoldens, relativeError } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens, referenceFolder } from "../../paths.ts";
import { temporaryFolder } from "../output/folders.ts";
import { golden, memoryFile, random } from "./sd1_mini.ts";

const parts = [
  { part: "unet", baseName: "diffusion_pytorch_model" },
  { part: "text_encoder", baseName: "model" },
] as const;

for (const name of ["lycoris", "dora_peft", "lora_metadata", "peft_lokr/adapter_model"]) {
  gpuTest(`${name}: a model saved with it holds the library's changes, and nothing else changes`, async (gpu) => {
    await using folder = await temporaryFolder();
    using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(golden("sd1-mini"), { gpu });
    await pipe.loadLoraWeights(golden(`faults/${name}.safetensors`), { weight: 0.8 });
    await pipe.savePretrained(`${folder.path}/merged`, { mergeLoras: true });
    await pipe.savePretrained(`${folder.path}/plain`);
    const { tensors: expected } = await loadGoldens(`faults/${name}_expected`);
    const left = new Set(expected.keys());
    for (const { part, baseName } of parts) {
      const open = async (model: string) => await openWeights(await directoryTree(`${model}/${part}`), baseName);
      using base = await open(golden("sd1-mini")), merged = await open(`${folder.path}/merged`);
      using plain = await open(`${folder.path}/plain`);
      assertEquals([...merged.tensors.keys()].sort(), [...base.tensors.keys()].sort());
      for (const key of base.tensors.keys()) {
        const own = await base.float32(key), change = expected.get(`${part}.${key}`);
        left.delete(`${part}.${key}`);
        assertEquals(await plain.float32(key), own, `${key} without mergeLoras`);
        if (change === undefined) assertEquals(await merged.float32(key), own, key);
        else {
          const wanted = own.map((value, i) => value + 0.8 * Number(change.data[i]));
          const error = relativeError(await merged.float32(key), wanted);
          assert(error <= 1e-5, `${key}: ${error}`);
        }
      }
    }
    assertEquals([...left], []);
  });
}

const cases = [
  { model: "sd1-mini", lora: golden("lora_kohya.safetensors"), withPooled: false },
  { model: "sdxl-mini", lora: `${referenceFolder}/sdxl_adapters/kohya.safetensors`, withPooled: true },
];

for (const { model, lora, withPooled } of cases) {
  gpuTest(
    `${model} saved with a LoRA and an edit draws as the pipeline with both, from folder and file`,
    async (gpu) => {
      await using folder = await temporaryFolder();
      const draw = async (pipe: EditingPipeline) => {
        pipe.scheduler = scheduler; // files do not hold it
        const { images } = await pipe.generate("a rose in a vase", {
          ...{ numInferenceSteps: 2, height: 32, width: 32, guidanceScale: 4 },
          ...{ generator: new TorchGenerator(7), outputType: "latent" },
        });
        using latents = images;
        return await latents.data();
      };
      using pipe = await openPipeline(`${goldens}/${model}`, { gpu });
      const settings = { clip_sample: false, set_alpha_to_one: false };
      const scheduler = DDIMScheduler.fromConfig(pipe.scheduler.config, settings);
      const untouched = await draw(pipe);
      await pipe.loadLoraWeights(lora, { weight: 0.7 });
      const adapted = await draw(pipe);
      const pair = { source: "a rose", destination: "a blue rose" };
      using edit = await ModelEdit.solve([pair], { withPooled }, pipe);
      pipe.edits.push(edit);
      const wanted = await draw(pipe);
      assert(relativeError(wanted, adapted) > 1e-3 && relativeError(adapted, untouched) > 1e-3, "both must show");
      const tokenizer = `${goldens}/${model}/tokenizer`;
      for (const place of ["model", "model.safetensors"]) {
        const path = `${folder.path}/${place}`, isFile = place !== "model";
        if (isFile) await pipe.saveSingleFile(path, { mergeLoras: true });
        else await pipe.savePretrained(path, { mergeLoras: true });
        using saved = await openPipeline(path, { gpu, ...isFile && { tokenizer } });
        assertClose(await draw(saved), wanted, 2e-4, place);
      }
      pipe.edits.clear();
    },
  );
}

gpuTest("a LoRA that adds a bias where the model has none is refused before anything is written", async (gpu) => {
  await using folder = await temporaryFolder();
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(golden("sd1-mini"), { gpu });
  const [path, { layer: { shape: [out, inputs] } }] = [...pipe.unet.weights.adapters.layers]
    .find(([path]) => path.endsWith("attn1.to_q"))!;
  const prefix = `lora_unet_${path.replaceAll(".", "_")}`;
  const source = await memoryFile("bias.safetensors", {
    [`${prefix}.diff`]: random([out, inputs], 1),
    [`${prefix}.diff_b`]: random([out], 2),
  });
  await pipe.loadLoraWeights(source);
  const target = `${folder.path}/model`;
  await assertRejects(
    () => pipe.savePretrained(target, { mergeLoras: true }),
    CheckpointError,
    `they add ${path}.bias`,
  );
  await assertRejects(() => Deno.stat(target), Deno.errors.NotFound);
});
