import type { EditReport } from "../pipeline/editing/edit_report.ts";
import { checkPictures } from "./output_names.ts";
import { type Command, defineCommand } from "./command.ts";
import { embeddedModel } from "./embedded_model.ts";
import { lambdaFlag, modelFlags, samplingFlags } from "./flags.ts";
import { interruptSignal } from "./interrupt.ts";
import { applySampling, openPipeline } from "./open_pipeline.ts";
import { checkSampler } from "./sampler.ts";
import { editJson, editLine } from "./edit_report.ts";
import { overwriteFlag } from "./files.ts";
import { say, sayJson } from "./printer.ts";
import { promptFlags, promptsOf } from "./prompts.ts";
import { type SheetPrompt, writeBeforeAfterSheet } from "./sheet.ts";

/**
 * The default prompts: the edit's source, prompts that should change with it, prompts that should
 * not.
 */
const defaultPrompts: Record<"source" | "related" | "unrelated", readonly string[]> = {
  source: ["A pack of roses"],
  related: ["a field of roses", "a rose in a vase", "a painting of a rose"],
  unrelated: ["a lemon", "a cat on the beach"],
};

/** `bluerose demo`: edits the embedded model and draws the same prompts before and after. */
export const command: Command = defineCommand({
  name: "demo",
  summary: "edit the embedded model and draw before and after",
  usage: "[flags]",
  details:
    "Draws six prompts with the embedded pocket model, makes its roses blue with one TIME edit, and draws the same prompts with the same seed again. " +
    "The model knows 14 things (rose, tulip, banana, apple, lemon, car, balloon, house, cat, fish, cup, hat, tree, bird), " +
    "9 colors and a dozen scenes.",
  flags: {
    source: { kind: "text", default: "A pack of roses", help: "under-specified prompt: what to edit" },
    destination: {
      kind: "text",
      default: "A pack of blue roses",
      help: "the same prompt with the attribute that the model should assume",
    },
    lambda: lambdaFlag,
    ...promptFlags,
    prompt: { ...promptFlags.prompt, help: "prompt to draw in place of the default six" },
    output: {
      kind: "text",
      alias: "o",
      default: "blue-roses.png",
      placeholder: "FILE",
      group: "Output",
      help: "picture file to write (.png or .jpg)",
      access: { kind: "write", purpose: "write the pictures" },
    },
    overwrite: overwriteFlag,
    ...modelFlags,
    model: { ...modelFlags.model, required: undefined, default: embeddedModel },
    ...samplingFlags,
    cfgScale: { ...samplingFlags.cfgScale, default: 5 },
    seed: { ...samplingFlags.seed, default: 2n },
  },
  examples: [
    { line: "demo", says: "blue roses" },
    {
      line: 'demo --source "A car" --destination "A red car" -p "a car" -p "a car on the beach" -p "a cat"',
      says: "red cars",
    },
  ],
  async run(values) {
    const { source, destination, lambda: lamb, output } = values;
    checkSampler(values);
    await checkPictures([output], values);
    const given = await promptsOf(values);
    const prompts: SheetPrompt[] = given.length > 0
      ? given.map((prompt) => ({ prompt }))
      : Object.entries(defaultPrompts).flatMap(([note, prompts]) => prompts.map((prompt) => ({ prompt, note })));
    const start = performance.now();
    using pipe = await openPipeline(values);
    say(`Drawing on ${pipe.gpu.info.name}`);
    applySampling(pipe, values);
    let report: EditReport | undefined;
    const path = await writeBeforeAfterSheet(pipe, output, {
      prompts,
      title: `${source} -> ${destination}`,
      values,
      signal: interruptSignal(),
      edit: async () => {
        // includes compiling the solver's kernels
        const cold = await pipe.editModel(source, destination, { lamb });
        const warm = await pipe.editModel(source, destination, { lamb });
        const line = `${editLine(warm)} (first time: ${cold.ms.toFixed(0)} ms)`;
        report = warm;
        say(line);
        return line;
      },
    });
    say(`Wrote ${path}`);
    sayJson({
      sheet: { path, seed: values.seed, prompts },
      edit: report && editJson(report),
      device: pipe.gpu.info.name,
      timings: { totalMs: performance.now() - start },
    });
  },
});
