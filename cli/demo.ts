import { type Command, defineCommand } from "./command.ts";
import { applySampling, modelFlags, onInterrupt, openPipeline, samplingFlags } from "./drawing.ts";
import { editLine } from "./edit_line.ts";
import { type SheetPrompt, writeBeforeAfterSheet } from "./sheet.ts";

const pocket = `${import.meta.dirname}/../models/pocket`;

/**
 * What the sheet shows unless told otherwise: the edit's source, prompts that should change with
 * it, and prompts that should not.
 */
const shown: Record<"source" | "related" | "unrelated", readonly string[]> = {
  source: ["A pack of roses"],
  related: ["a field of roses", "a rose in a vase", "a painting of a rose"],
  unrelated: ["a lemon", "a cat on the beach"],
};

/** `bluerose demo`: the embedded model, edited, before and after, in under a minute. */
export const command: Command = defineCommand({
  name: "demo",
  summary: "edit the embedded model and look at it before and after",
  usage: "[flags]",
  details:
    "Draws prompts with the embedded pocket model, makes its roses blue by one TIME edit, and draws the same prompts and seed again. " +
    "The model knows 14 things (rose, tulip, banana, apple, lemon, car, balloon, house, cat, fish, cup, hat, tree, bird), " +
    "9 colours and a dozen scenes; try others.",
  flags: {
    source: { kind: "text", default: "A pack of roses", help: "under-specified prompt" },
    destination: {
      kind: "text",
      default: "A pack of blue roses",
      help: "the same prompt with what should be taken for granted",
    },
    prompt: {
      kind: "texts",
      alias: "p",
      help: "prompts to draw in place of the sheet's own",
    },
    lambda: { kind: "number", default: 0.1, above: 0, help: "how firmly everything else is held" },
    output: {
      kind: "text",
      alias: "o",
      default: "blue-roses.png",
      placeholder: "FILE",
      help: "where to write the sheet",
    },
    ...modelFlags,
    model: { ...modelFlags.model, required: undefined, default: pocket },
    ...samplingFlags,
    cfgScale: { ...samplingFlags.cfgScale, default: 5 },
    seed: { ...samplingFlags.seed, default: 2 },
  },
  examples: [
    { line: "demo", says: "blue roses" },
    {
      line: 'demo --source "A cat" --destination "A white cat" -p "a cat" -p "a cat in the snow" -p "a bird"',
      says: "white cats",
    },
  ],
  async run(values) {
    const { source, destination, lambda: lamb, output } = values;
    const prompts: SheetPrompt[] = values.prompt.length > 0
      ? values.prompt.map((prompt) => ({ prompt }))
      : Object.entries(shown).flatMap(([note, prompts]) => prompts.map((prompt) => ({ prompt, note })));
    using interrupt = onInterrupt();
    using pipe = await openPipeline(values);
    console.log(`Drawing on ${pipe.gpu.info.name}`);
    applySampling(pipe, values);
    await writeBeforeAfterSheet(pipe, output, {
      prompts,
      title: `${source} -> ${destination}`,
      values,
      signal: interrupt.signal,
      edit: async () => {
        const cold = await pipe.editModel(source, destination, { lamb }); // compiles the solver's kernels
        const line = `${editLine(await pipe.editModel(source, destination, { lamb }))} (first time: ${
          cold.ms.toFixed(0)
        } ms)`;
        console.log(line);
        return line;
      },
    });
    console.log(`Look at ${output}`);
  },
});
