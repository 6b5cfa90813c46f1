import { countText } from "../engine/inspect.ts";
import {
  compareEditors,
  conceptCounts,
  type EditorResult,
  type NamedEditor,
  picturesOfComparison,
} from "../pipeline/evaluation/editors/compare.ts";
import { comparisonHead, comparisonLine, comparisonLosses } from "../pipeline/evaluation/editors/table.ts";
import { needsLastTokens } from "../pipeline/evaluation/editors/prompts.ts";
import type { EditCase } from "../pipeline/evaluation/edit_cases.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import type { CLIPModel } from "../pipeline/models/clip.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { casesOf, pocket } from "./evaluation_flags.ts";
import type { Flags, Values } from "./flag_types.ts";
import { parseNumber } from "./flag_values.ts";
import { interruptSignal } from "./interrupt.ts";
import { checkJsonFile } from "./json_file.ts";
import { drawingOfFlags, judgedFlags, runJudged } from "./judged_evaluation.ts";
import { say } from "./printer.ts";
import { showProgress } from "./progress.ts";
import { settingFlags, settingsOfFlags } from "./sweep_settings.ts";

const { preserveFile: _, ...editorFlags } = settingFlags;

const flags = {
  ...judgedFlags,
  steps: { ...judgedFlags.steps, default: 8 },
  cases: {
    kind: "texts",
    many: true,
    placeholder: "FILE…",
    default: ["edits", "guides", "erasures", "moderation"].map((name) => `${pocket}/evaluation/${name}.json`),
    defaultText: "the embedded model's four",
    mayRead: true,
    help: "edits with their test prompts; each file gets a table",
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
  unrelated: {
    ...judgedFlags.unrelated,
    default: 5,
    help: "unrelated prompts of each edit, before those of other edits",
  },
} as const satisfies Flags;

/** `bluerose evaluate editors`: the editors side by side, with one edit and several in a row. */
export const command: Command = defineCommand({
  name: "evaluate editors",
  summary: "compare editors on the same edits: one at a time, and several in a row",
  usage: "[flags]",
  details: [
    'Draws the test prompts of lists of edits (colors; objects erased to a guide concept, and to ""; scenes moderated) under each editor, as evaluate edits does, with 1, 5 and 10 edits in a row, each solved for itself.',
    "Unrelated prompts are about nothing that any edit of the list is about; their pictures must fit the prompt better than any form that the acting edits",
    "could give it. Change: root mean square change of their pictures, of 255. Leakage: their mean predicted leakage. Below the table it says where",
    "editors lose: the last and the best of each figure, rates with Wilson's 95 % interval. Where a destination is not its source with words added,",
    "TIME pairs last tokens, as the others do.",
  ].join(" "),
  flags,
  examples: [
    {
      line: "evaluate editors",
      says: "five settings of three editors on the embedded model: colors, erasures and moderation",
    },
    {
      line: "evaluate editors --cases models/pocket/evaluation/edits.json --jointly --concepts 5 10",
      says: "the colors only, several edits solved as one",
    },
  ],
  async run(values) {
    const { jointly, steps, cfgScale: guidance } = values;
    const tables = await tablesOf(values);
    await checkJsonFile(values.json, values);
    const total = tables.reduce((sum, table) => sum + table.total, 0);
    await runJudged(values, { total, settings: { jointly } }, async ({ pipe, clip, keepPartial }) => {
      say(`${countText(total, "picture")} of ${countText(steps, "step")}, guidance ${guidance}`);
      const finished: unknown[] = [];
      for (const table of tables) {
        const results: EditorResult[] = [];
        const losses = await printTable({ pipe, clip, table, values }, async (result) => {
          results.push(result);
          await keepPartial({ tables: [...finished, { ...table, results }] });
        });
        finished.push({ ...table, results, losses });
      }
      return { tables: finished };
    });
  },
});

type EditorValues = Values<typeof flags>;

/** One file of cases, and what is compared on it. */
interface CaseTable {
  readonly path: string;
  readonly cases: readonly EditCase[];
  readonly editors: readonly NamedEditor[];
  readonly concepts: readonly number[];
  /** Number of pictures. */
  readonly total: number;
}

/**
 * The tables of all files of cases.
 *
 * @throws {ArgumentError} for a method that is no editor, and for more concepts than edits
 */
async function tablesOf(values: EditorValues): Promise<CaseTable[]> {
  const asked = values.concepts.map((text) => parseNumber(text, "--concepts", { kind: "whole", min: 1 }));
  editorsOf(values); // refuses wrong flags before files are read
  const tables: CaseTable[] = [];
  for (const path of values.cases) {
    const cases = await casesOf(path, values);
    const editors = editorsOf(cases.some(needsLastTokens) ? { ...values, tokens: ["last"] } : values);
    const concepts = conceptCounts(cases, asked);
    if (concepts.length === 0) {
      throw new ArgumentError(
        `Cannot use --concepts ${asked.join(" ")} with ${
          countText(cases.length, "edit")
        }: give ${cases.length} or fewer`,
        { argument: "--concepts" },
      );
    }
    const total = picturesOfComparison(cases, { editors: editors.length, concepts, seeds: values.seeds });
    tables.push({ path, cases, editors, concepts, total });
  }
  return tables;
}

/** @throws {ArgumentError} for a method that is no editor */
function editorsOf(values: Omit<Parameters<typeof settingsOfFlags>[0], "preserveFile">): NamedEditor[] {
  const other = values.method.find((name) => name === "baseline" || name === "oracle");
  if (other !== undefined) {
    throw new ArgumentError(`Cannot use --method ${other}: it takes editors; the unedited model is always shown`, {
      argument: "--method",
    });
  }
  return settingsOfFlags({ ...values, preserveFile: undefined })
    .flatMap(({ name, editor }): NamedEditor[] => editor ? [{ name, editor }] : []);
}

/** Draws and prints the table of one file. Returns the lines that say where editors lose. */
async function printTable(
  { pipe, clip, table, values }: {
    pipe: EditingPipeline;
    clip: CLIPModel;
    table: CaseTable;
    values: EditorValues;
  },
  onResult: (result: EditorResult) => Promise<void>,
): Promise<string[]> {
  const { path, cases, editors, concepts, total } = table;
  const { jointly } = values;
  const width = Math.max(...editors.map(({ name }) => name.length));
  say(
    `\n${path.split(/[\\/]/).at(-1)}: ${countText(cases.length, "edit")} ${jointly ? "solved jointly" : "in a row"}, ${
      countText(total, "picture")
    }\n`,
  );
  say(comparisonHead(width));
  using bar = showProgress("drawing", { total, unit: "picture" });
  const results = await compareEditors(pipe, clip, cases, {
    editors,
    concepts,
    jointly,
    ...drawingOfFlags(values),
    signal: interruptSignal(),
    onDrawn: (count) => bar.advance(count),
    async onResult(result) {
      say(comparisonLine(result, width));
      await onResult(result);
    },
  });
  const losses = comparisonLosses(results);
  say(["", ...losses.length > 0 ? losses : ["the editors do not differ"]].join("\n"));
  return losses;
}
