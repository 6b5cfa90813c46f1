import { encodePicture, formatOfPath } from "../pipeline/image/picture.ts";
import { generationText } from "../pipeline/image/generation_text.ts";
import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { applySampling, drawPrompts, modelFlags, onInterrupt, openPipeline, samplingFlags, sizeOf } from "./drawing.ts";
import { type Command, defineCommand } from "./command.ts";

/** `bluerose generate`: pictures of prompts, one file each. */
export const command: Command = defineCommand({
  name: "generate",
  summary: "draw pictures of prompts",
  usage: "-m MODEL -p PROMPT [flags]",
  details:
    "Draws each prompt, --batch-count times with the seeds that follow --seed, and writes PNG files that carry prompt, seed, sampler, " +
    "model and edits as text. With several pictures, -o's name is numbered.",
  flags: {
    ...modelFlags,
    prompt: { kind: "texts", alias: "p", required: true, help: "what to draw; may be given several times" },
    output: {
      kind: "text",
      alias: "o",
      default: "output.png",
      placeholder: "FILE",
      help: "where to write (.png or .jpg)",
    },
    batchCount: { kind: "whole", alias: "b", default: 1, min: 1, help: "pictures of each prompt" },
    edit: {
      kind: "texts",
      placeholder: "FILE",
      help: "edit to draw with (from bluerose edit --save-edit); may be given several times",
    },
    ...samplingFlags,
  },
  examples: [
    { line: 'generate -m models/pocket -p "a field of roses" --seed 7', says: "one picture of the embedded model" },
    { line: 'generate -m models/pocket -p "a cat" -p "a rose" -b 4 -o many.png', says: "many_1.png … many_8.png" },
  ],
  async run(values) {
    const { prompt, output, batchCount, seed } = values;
    const format = formatOfPath(output);
    using interrupt = onInterrupt();
    using pipe = await openPipeline(values);
    applySampling(pipe, values);
    for (const path of values.edit) pipe.edits.push(await ModelEdit.load(path, pipe));
    const prompts = prompt.flatMap((text) => Array<string>(batchCount).fill(text));
    const seeds = prompts.map((_, i) => seed + i % batchCount);
    const pictures = await drawPrompts(pipe, prompts, seeds, values, interrupt);
    for (const [i, picture] of pictures.entries()) {
      const path = pictures.length === 1 ? output : output.replace(/(\.[^.]+)$/, `_${i + 1}$1`);
      const text = generationText({
        prompt: prompts[i],
        negativePrompt: values.negativePrompt,
        seed: seeds[i],
        steps: values.steps,
        cfgScale: values.cfgScale,
        sampler: pipe.scheduler.constructor.name,
        ...sizeOf(pipe, values),
        model: values.model,
        clipSkip: values.clipSkip,
        edits: pipe.edits.records,
      });
      await Deno.writeFile(path, await encodePicture(picture, format, { text }));
      console.log(path);
    }
  },
});
