import {
  compareEditors,
  conceptCounts,
  type EditorResult,
  type NamedEditor,
  picturesOfComparison,
} from "../pipeline/evaluation/editors/compare.ts";
import { comparisonHead, comparisonLine, comparisonLosses } from "../pipeline/evaluation/editors/table.ts";
import { CLIPModel } from "../pipeline/models/clip.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { casesOf, evaluationFlags, pocket } from "./evaluation_flags.ts";
import { parseNumber } from "./flag_values.ts";
import { interruptSignal } from "./interrupt.ts";
import { checkJsonFile, giveJson, PartialJson } from "./json_file.ts";
import { openPipeline } from "./open_pipeline.ts";
import { say } from "./printer.ts";
import { showProgress } from "./progress.ts";
import { settingFlags, settingsOfFlags } from "./sweep_settings.ts";

const { preserveFile: _, ...editorFlags } = settingFlags;

/** `bluerose evaluate editors`: the editors side by side, with one edit and several in a row. */
export const command: Command = defineCommand({
  name: "evaluate editors",
  summary: "compare editors on the same edits: one at a time, and several in a row",
  usage: "[flags]",
  details: [
    "Draws the test prompts of a list of edits under each editor, as evaluate edits does, with 1, 5 and 10 edits in a row, each solved for itself.",
    "Unrelated prompts are about nothing that any edit of the list is about; their pictures must fit the prompt better than any form that the acting edits",
    "could give it. Change: root mean square change of their pictures, of 255. Leakage: their mean predicted leakage. Below the table it says where",
    "editors lose: the last and the best of each figure, rates with Wilson's 95 % interval.",
  ].join(" "),
  flags: {
    ...evaluationFlags,
    steps: { ...evaluationFlags.steps, default: 8 },
    clip: {
      kind: "text",
      placeholder: "DIR",
      default: `${pocket}/clip`,
      defaultText: "the embedded model's",
      help: "folder of the CLIP model that scores the pictures",
    },
    cases: {
      kind: "text",
      placeholder: "FILE",
      default: `${pocket}/evaluation/edits.json`,
      defaultText: "the embedded model's",
      access: { kind: "read", purpose: "read the edits to judge" },
      help: "edits with their test prompts",
    },
    ...editorFlags,
    method: {
      kind: "texts",
      many: true,
      placeholder: "METHOD…",
      group: "Settings",
      default: ["time", "uce", "nullspace"],
      help: "editors to compare: time, uce, nullspace",
    },
    preserve: { ...editorFlags.preserve, default: "both" },
    concepts: {
      kind: "texts",
      many: true,
      placeholder: "N…",
      default: ["1", "5", "10"],
      help: "numbers of edits that act at once",
    },
    jointly: { kind: "switch", help: "solve the edits that act at once as one edit of several pairs" },
    edits: { kind: "whole", min: 1, defaultText: "all", help: "use only this many edits" },
    related: { kind: "whole", min: 0, default: 2, help: "related prompts of each edit" },
    unrelated: {
      kind: "whole",
      min: 0,
      default: 5,
      help: "unrelated prompts of each edit, before those of other edits",
    },
  },
  examples: [
    { line: "evaluate editors", says: "five settings of three editors on the embedded model's ten edits" },
    { line: "evaluate editors --jointly --concepts 5 10", says: "the same, several edits solved as one" },
  ],
  async run(values) {
    const { seeds, seed: firstSeed, steps, cfgScale: guidance, batchSize, edits, related, unrelated, jointly } = values;
    const editors = settingsOfFlags({ ...values, preserveFile: undefined }).map(({ name, editor }): NamedEditor => {
      if (editor !== undefined) return { name, editor };
      throw new ArgumentError(`Cannot use --method ${name}: it takes editors; the unedited model is always shown`, {
        argument: "--method",
      });
    });
    const asked = values.concepts.map((text) => parseNumber(text, "--concepts", { kind: "whole", min: 1 }));
    const cases = await casesOf(values.cases, { edits, related, unrelated });
    const concepts = conceptCounts(cases, asked);
    if (concepts.length === 0) {
      throw new ArgumentError(
        `Cannot use --concepts ${asked.join(" ")} with ${cases.length} edits: give ${cases.length} or fewer`,
        {
          argument: "--concepts",
        },
      );
    }
    await checkJsonFile(values.json, values);
    using pipe = await openPipeline(values);
    using clip = await CLIPModel.fromPretrained(values.clip, { gpu: pipe.gpu });
    const total = picturesOfComparison(cases, { editors: editors.length, concepts, seeds });
    const width = Math.max(...editors.map(({ name }) => name.length));
    say(
      `${cases.length} edits ${
        jointly ? "solved jointly" : "in a row"
      }, ${total} pictures of ${steps} steps, guidance ${guidance}\n`,
    );
    say(comparisonHead(width));
    const start = performance.now();
    using bar = showProgress("drawing", { total, unit: "picture" });
    const settings = {
      model: values.model,
      clip: values.clip,
      editors,
      concepts,
      jointly,
      cases,
      seeds,
      firstSeed,
      steps,
      guidance,
    };
    const partial = new PartialJson(values.json);
    const finished: EditorResult[] = [];
    const results = await compareEditors(pipe, clip, cases, {
      editors,
      concepts,
      jointly,
      seeds,
      firstSeed,
      steps,
      guidance,
      batchSize,
      signal: interruptSignal(),
      onDrawn: (count) => bar.advance(count),
      async onResult(result) {
        say(comparisonLine(result, width));
        finished.push(result);
        await partial.write({ settings, results: finished });
      },
    });
    const seconds = (performance.now() - start) / 1000;
    const losses = comparisonLosses(results);
    say(["", ...losses.length > 0 ? losses : ["the editors do not differ"], ""].join("\n"));
    say(`${seconds.toFixed(0)} s, ${(seconds / total).toFixed(2)} s a picture`);
    await giveJson(values.json, { settings, results, losses });
    await partial.remove();
  },
});
