/**
 * Writes the mini models' first edit as LoRA files. lora_in_diffusers.py compares them with the
 * goldens. Of SDXL, an edit of the pooled embedding as well, with the model that it is baked into.
 *
 *     deno run --allow-read --allow-write tests/reference/export_loras.ts FOLDER
 *
 * @module
 */
import { Gpu } from "../../engine/gpu.ts";
import { openPipeline } from "../../pipeline/open_pipeline.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { loadGoldens } from "../goldens.ts";
import { goldens } from "../paths.ts";

const folder = Deno.args[0];
if (folder === undefined) throw new Error("Cannot export without a folder: give one as the argument");
using gpu = await Gpu.request();
for (const name of ["sd1-mini", "sd2-mini", "sdxl-mini"] as const) {
  using model = await openPipeline(`${goldens}/${name}`, { gpu, safetyChecker: null });
  const { note } = await loadGoldens(name);
  const [source, destination] = note.pair ?? note.pairs[0];
  using edit = await ModelEdit.solve([{ source, destination }], { lamb: 0.1 }, model);
  for (const format of ["kohya", "diffusers"] as const) {
    for (const dtype of ["f32", "f16"] as const) {
      console.log(await edit.exportLora(`${folder}/${name}.${format}.${dtype}.safetensors`, { format, dtype }));
    }
  }
  if (name !== "sdxl-mini") continue;
  using pooled = await ModelEdit.solve([{ source, destination }], { lamb: 0.1, withPooled: true }, model);
  for (const format of ["kohya", "diffusers"] as const) {
    console.log(await pooled.exportLora(`${folder}/pooled.${format}.safetensors`, { format }));
  }
  model.edits.push(pooled);
  await model.savePretrained(`${folder}/pooled`);
}
