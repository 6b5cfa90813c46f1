import { loadAutoencoder } from "../pipeline/models/autoencoder.ts";
import { pictureGrid } from "../pipeline/image/picture_grid.ts";
import { encodePicture, formatOfPath, type JimpImage, type Picture } from "../pipeline/image/picture.ts";
import { generationText, seedForJson } from "../pipeline/image/generation_text.ts";
import { ArgumentError } from "./argument_error.ts";
import { captionedGrid } from "./captioned_grid.ts";
import { type Command, defineCommand } from "./command.ts";
import { drawPrompts, previewOf, recordOf } from "./draw_prompts.ts";
import { pictureTexts } from "./exact_record.ts";
import { applyRedraw, applyScheduler, checkFiles, redrawOf, redrawValues } from "./redraw.ts";
import { anyModelFlag, editFlag, parseEdits, pushEdits } from "./edits_of_flags.ts";
import { checkDistinct, overwriteFlag } from "./files.ts";
import { followingSeed } from "./flag_values.ts";
import { modelFlags, previewFlags, samplingFlags } from "./flags.ts";
import { interruptSignal } from "./interrupt.ts";
import { Parts } from "./parts.ts";
import { applySampling, openPipeline } from "./open_pipeline.ts";
import { checkSampler } from "./sampler.ts";
import { checkPattern, checkPictures, FreeNames, patternNames } from "./output_names.ts";
import { say, sayJson } from "./printer.ts";
import { promptFlags, requiredPrompts } from "./prompts.ts";

/** Pictures of one command at most. */
const mostPictures = 100_000;

/** `bluerose generate`: draws prompts, one file per picture. */
export const command: Command = defineCommand({
  name: "generate",
  summary: "draw pictures from prompts",
  usage: "-m MODEL -p PROMPT [flags]",
  details:
    "Draws each prompt --batch-count times, with consecutive seeds from --seed on. PNG files store prompt, seed, sampler, model, LoRAs and edits " +
    'as text. Several pictures get numbered names, or those of a pattern: -o "{prompt}_{seed}.png". Files that exist are kept, unless --overwrite is given. ' +
    "--grid puts all pictures into one file. Textual inversions are applied first, then LoRAs, then edits.",
  flags: {
    ...promptFlags,
    ...modelFlags,
    model: { ...modelFlags.model, required: undefined },
    from: {
      kind: "text",
      placeholder: "PICTURE",
      group: "Prompts",
      help: "draw this picture again, to the byte on the same device; flags that are given replace its settings",
      access: { kind: "read", purpose: "read the picture's settings" },
    },
    output: {
      kind: "text",
      alias: "o",
      default: "output.png",
      placeholder: "FILE",
      group: "Output",
      help: "picture file to write (.png or .jpg); {seed}, {index} and {prompt} in its name are filled in",
      access: { kind: "write", purpose: "write the pictures" },
    },
    batchCount: {
      kind: "whole",
      alias: "b",
      default: 1,
      min: 1,
      max: mostPictures,
      group: "Output",
      help: "pictures per prompt",
    },
    grid: { kind: "switch", group: "Output", help: "write all pictures into one file, as a grid with captions" },
    captions: {
      kind: "switch",
      default: true,
      group: "Output",
      help: "write prompts, seeds and edits beside the pictures of a grid",
    },
    overwrite: overwriteFlag,
    edit: editFlag,
    anyModel: anyModelFlag,
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
      line: 'generate -m models/pocket --prompts-file prompts.txt -o "{prompt}_{seed}.png" --seed -1',
      says: "the prompts of a file, from a random seed, named by prompt and seed",
    },
    {
      line:
        'generate -m stable-diffusion-v1-5/stable-diffusion-v1-5 --variant fp16 -p "a fox" --sampling-method "dpm++2m karras" --preview look.png',
      says: "a model of the hub, a sampler with Karras sigmas, and a preview file",
    },
    {
      line: 'generate -m v1-5-pruned-emaonly.safetensors --lora ink.safetensors:0.7 -p "a fox" --steps 20',
      says: "a single file with a LoRA",
    },
  ],
  async run(flags, { given }) {
    const again = await redrawOf(flags.from);
    const values = modelChosen(again ? await redrawValues(again, flags, given) : flags);
    if (again) await checkFiles(again, values, given);
    const { output, batchCount, seed } = values;
    const format = formatOfPath(output);
    checkPattern(output);
    checkSampler(values);
    const preview = await previewOf(values);
    parseEdits(values.edit);
    const asked = await requiredPrompts(values);
    if (asked.length * batchCount > mostPictures) {
      throw new ArgumentError(
        `Cannot draw ${asked.length} prompts ${batchCount} times: one command draws ${mostPictures} pictures at most`,
        { argument: "--batch-count" },
      );
    }
    const wanted = asked.flatMap((prompt) =>
      Array.from({ length: batchCount }, (_, i) => ({ prompt, seed: followingSeed(seed, i) }))
    );
    const paths = patternNames(output, values.grid ? [{ prompt: asked[0], seed }] : wanted);
    await checkPictures(paths, values);
    for (const path of new Set(paths)) await checkDistinct({ "--output": path, "--preview": preview?.path });
    const names = new FreeNames(values);
    const parts = values.grid ? await Parts.beside(paths[0]) : undefined;
    const start = performance.now();
    using owned = new DisposableStack();
    const pipe = owned.use(await openPipeline(values));
    if (again) applyScheduler(again, pipe, given);
    applySampling(pipe, values);
    const { previewVae, offline } = values;
    const vae = previewVae === undefined ? undefined : owned.use(
      await loadAutoencoder(previewVae, {
        gpu: pipe.gpu,
        localFilesOnly: offline || undefined,
        family: pipe.unet.config.textTime === null ? "sd" : "sdxl",
      }),
    );
    if (again) { for (const edit of await applyRedraw(again, pipe, given)) owned.use(edit); }
    await pushEdits(pipe, values, owned);
    const replaced = given.has("samplingMethod") || given.has("scheduler");
    const sampler = again && !replaced ? again.settings.sampler : undefined;
    const record = { ...await recordOf(pipe, values), ...(sampler === undefined ? {} : { sampler }) };
    const textOf = await pictureTexts(pipe, values, asked, { sampler });
    const written: { path: string; prompt: string; seed: bigint }[] = [];
    const write = async (path: string, picture: Picture | JimpImage, text: Record<string, string>) => {
      const written = await names.write(path, await encodePicture(picture, format, { text }));
      say(written);
      return written;
    };
    const drawStart = performance.now();
    const pictures = await drawPrompts(
      pipe,
      wanted.map(({ prompt }) => prompt),
      wanted.map(({ seed }) => seed),
      values,
      {
        signal: interruptSignal(),
        preview: preview && { ...preview, vae },
        onPicture: async (picture, i) => {
          const text = textOf(wanted[i]);
          if (parts) return await parts.add(`${i + 1}`, picture, text);
          const path = await write(paths[i], picture, text);
          written.push({ path, ...wanted[i] });
        },
      },
    );
    if (values.grid) {
      const text = generationText({ ...record, prompt: asked.join("\n"), seed });
      const drawn = wanted.map(({ prompt, seed }) => ({ prompt, seed: seedForJson(seed) }));
      const columns = asked.length > 1 && batchCount > 1 ? batchCount : undefined;
      const grid = values.captions
        ? await captionedGrid(pictures, wanted, { columns, edits: record.edits })
        : pictureGrid(pictures, { columns });
      const path = await write(paths[0], grid, {
        ...text,
        bluerose: JSON.stringify({ ...JSON.parse(text.bluerose), pictures: drawn }),
      });
      await parts?.replaceBy(path);
      written.push(...wanted.map((each) => ({ path, ...each })));
    }
    sayJson({
      pictures: written,
      settings: record,
      device: pipe.gpu.info.name,
      timings: { loadMs: drawStart - start, drawMs: performance.now() - drawStart },
    });
  },
});

/** @throws {ArgumentError} without a model */
function modelChosen<V extends { readonly model: string | undefined }>(values: V): V & { readonly model: string } {
  const { model } = values;
  if (model !== undefined) return { ...values, model };
  throw new ArgumentError("Cannot go on without -m or --model MODEL, or --from PICTURE: the model to draw with", {
    argument: "--model",
  });
}
