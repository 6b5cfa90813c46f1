/**
 * Exports an edit as a LoRA file that diffusers, A1111 and ComfyUI load.
 *
 *     deno run --allow-read=. --allow-write=. examples/export_lora.ts
 */
import { ModelEdit, StableDiffusionModelEditingPipeline } from "@bluerose/bluerose";

using pipe = await StableDiffusionModelEditingPipeline.fromPretrained("models/pocket");
using edit = await ModelEdit.solve([{ source: "A rose", destination: "A blue rose" }], { lamb: 0.1 }, pipe);

// Without `rank` the export is exact; a smaller rank gives a smaller file.
const report = await edit.exportLora("blue-roses.safetensors", { rank: 8, dtype: "f16" }, pipe);
console.log(
  `wrote ${report.path}: ${report.matrices} matrices of rank ${report.rank}, ` +
    `truncation error ${report.truncationError.toExponential(1)}`,
);
