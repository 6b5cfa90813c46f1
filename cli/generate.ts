import { pictureGrid } from "../pipeline/image/picture_grid.ts";
import { encodePicture, formatOfPath, type Picture } from "../pipeline/image/picture.ts";
import { generationText } from "../pipeline/image/generation_text.ts";
import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { drawPrompts, previewOf, recordOf } from "./draw_prompts.ts";
import { modelFlags, previewFlags, samplingFlags } from "./flags.ts";
import { onInterrupt } from "./interrupt.ts";
import { applySampling, openPipeline } from "./open_pipeline.ts";
import { type Command, defineCommand } from "./command.ts";

/** `bluerose generate`: draws prompts, one file per picture. */
export const command: Command = defineCommand({
  name: "generate",
  summary: "draw pictures from prompts",
  usage: "-m MODEL -p PROMPT [flags]",
  details:
    "Draws each prompt --batch-count times, with consecutive seeds from --seed on. PNG files store prompt, seed, sampler, model, LoRAs and edits " +
    "as text. Several pictures get numbered file names; --grid puts them into one file. " +
    "Textual inversions are applied first, then LoRAs, then edits.",
  flags: {
    ...modelFlags,
    prompt: { kind: "texts", alias: "p", required: true, help: "prompt to draw" },
    output: {
      kind: "text",
      alias: "o",
      default: "output.png",
      placeholder: "FILE",
      help: "picture file to write (.png or .jpg)",
    },
    batchCount: { kind: "whole", alias: "b", default: 1, min: 1, help: "pictures per prompt" },
    grid: { kind: "switch", help: "write all pictures into one file, as a grid" },
    edit: {
      kind: "texts",
      placeholder: "FILE",
      help: "edit to apply (a file from bluerose edit --save-edit)",
    },
    ...samplingFlags,
    ...previewFlags,
  },
  examples: [
    { line: 'generate -m models/pocket -p "a field of roses" --seed 7', says: "one picture with the embedded model" },
    {
      line: 'generate -m models/pocket -p "a cat" -p "a rose" -b 4 -o many.png',
      says: "eight pictures: many_1.png … many_8.png",
    },
    {
      line:
        'generate -m runwayml/stable-diffusion-v1-5 --variant fp16 -p "a fox" --sampling-method "dpm++2m karras" --preview look.png',
      says: "a model of the hub, a sampler with Karras sigmas, and a preview file",
    },
    {
      line: 'generate -m v1-5-pruned-emaonly.safetensors --lora ink.safetensors:0.7 -p "a fox" --steps 20',
      says: "a single file with a LoRA",
    },
  ],
  async run(values) {
    const { prompt, output, batchCount, seed } = values;
    const format = formatOfPath(output);
    const preview = previewOf(values);
    using interrupt = onInterrupt();
    using pipe = await openPipeline(values);
    applySampling(pipe, values);
    for (const path of values.edit) pipe.edits.push(await ModelEdit.load(path, pipe));
    const prompts = prompt.flatMap((text) => Array<string>(batchCount).fill(text));
    const seeds = prompts.map((_, i) => seed + i % batchCount);
    const pictures = await drawPrompts(pipe, prompts, seeds, values, { signal: interrupt.signal, preview });
    const record = await recordOf(pipe, values);
    const write = async (path: string, picture: Picture, text: Record<string, string>) => {
      await Deno.writeFile(path, await encodePicture(picture, format, { text }));
      console.log(path);
    };
    if (values.grid) {
      const text = generationText({ ...record, prompt: prompt.join("\n"), seed });
      const drawn = prompts.map((prompt, i) => ({ prompt, seed: seeds[i] }));
      await write(output, pictureGrid(pictures, { columns: gridColumns(prompt.length, batchCount) }), {
        ...text,
        bluerose: JSON.stringify({ ...JSON.parse(text.bluerose), pictures: drawn }),
      });
      return;
    }
    for (const [i, picture] of pictures.entries()) {
      const path = pictures.length === 1 ? output : output.replace(/(\.[^.]+)$/, `_${i + 1}$1`);
      await write(path, picture, generationText({ ...record, prompt: prompts[i], seed: seeds[i] }));
    }
  },
});

/** A row for each prompt, or a square where there is only one. */
function gridColumns(prompts: number, batchCount: number): number | undefined {
  return prompts > 1 && batchCount > 1 ? batchCount : undefined;
}
