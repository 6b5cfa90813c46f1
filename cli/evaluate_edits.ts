import { countText } from "../engine/inspect.ts";
import type { EditScores, Tally } from "../pipeline/evaluation/edit_scores.ts";
import { type EditEvaluation, evaluateEdits, picturesOfGrid } from "../pipeline/evaluation/evaluate_edits.ts";
import { needsLastTokens } from "../pipeline/evaluation/editors/prompts.ts";
import { editText } from "../pipeline/evaluation/sweep/plan.ts";
import { pairsLast } from "../pipeline/editing/prompts/method.ts";
import { type Command, defineCommand } from "./command.ts";
import { interruptSignal } from "./interrupt.ts";
import { drawingOfFlags, judgedFlags, runJudged } from "./judged_evaluation.ts";
import { casesOf, pocket } from "./evaluation_flags.ts";
import { parseNumber } from "./flag_values.ts";
import { methodFlags, methodOfFlags } from "./method_flags.ts";
import { checkJsonFile } from "./json_file.ts";
import { say } from "./printer.ts";
import { showProgress } from "./progress.ts";
import { checkSampler, samplerOf } from "./sampler.ts";

/** `bluerose evaluate edits`: scores over a grid of λ, with and without preserved prompts. */
export const command: Command = defineCommand({
  name: "evaluate edits",
  summary: "efficacy, generality and specificity by CLIP for each λ, with and without preserved prompts",
  usage: "[flags]",
  details: [
    "Draws the test prompts of a list of edits with the unedited model and with each edit. For each picture, CLIP says which of two prompts fits better",
    "(TIME, arXiv 2303.08084): the prompt itself, or the prompt with the words that the edit adds. Efficacy: pictures of the source prompt fit the destination.",
    "Generality: the same for related prompts. Specificity: pictures of unrelated prompts fit their own prompt; unseen are those that the edit does not",
    "preserve. In brackets: mean softmax probability of the wanted prompt. Each edit preserves the names of the other objects, or the prompts in FILE.",
    "Where a destination is not its source with words added, TIME pairs last tokens.",
  ].join(" "),
  flags: {
    ...judgedFlags,
    cases: {
      kind: "text",
      placeholder: "FILE",
      default: `${pocket}/evaluation/edits.json`,
      defaultText: "the embedded model's",
      access: { kind: "read", purpose: "read the edits to judge" },
      help: "edits with their test prompts",
    },
    ...methodFlags,
    lambda: { kind: "texts", many: true, placeholder: "N…", defaultText: "0.001, 0.01, 0.1, 1, 10", help: "λ to try" },
    samplingMethod: {
      kind: "text",
      alias: "sampler",
      placeholder: "NAME",
      defaultText: "the model's own",
      help: "sampler",
    },
    perEdit: { kind: "switch", help: "print the scores of each edit below each line" },
  },
  examples: [
    {
      line: "evaluate edits",
      says: "ten edits of the embedded model: 660 pictures, ten to twenty minutes on two cores",
    },
    {
      line: "evaluate edits --steps 20 --seeds 2 --related 5 --unrelated 5 --json edits-evaluation.json",
      says: "all test prompts: 2420 pictures",
    },
  ],
  async run(values) {
    const lambdas = values.lambda.length === 0
      ? [0.001, 0.01, 0.1, 1, 10]
      : values.lambda.map((text) => parseNumber(text, "--lambda", lambdaRange));
    const [{ lamb: _, ...asked }] = lambdas.map((lambda) => methodOfFlags({ ...values, lambda, preserveWeight: 1 }));
    const cases = await casesOf(values.cases, values);
    const tokens = asked.tokens ?? (cases.some(needsLastTokens) ? "last" : undefined);
    const editor = { ...asked, tokens };
    await checkJsonFile(values.json, values);
    checkSampler(values);
    const drawing = drawingOfFlags(values);
    const total = picturesOfGrid(cases, { lambdas, seeds: drawing.seeds, method: editor.method });
    await runJudged(values, { total, settings: { editor, cases } }, async ({ pipe, clip, keepPartial }) => {
      pipe.scheduler = samplerOf(values, pipe.scheduler);
      const paired = pairsLast(asked) || tokens !== "last" ? "" : ", tokens last";
      say(
        `${countText(cases.length, "edit")}${paired}, ${countText(total, "picture")} of ` +
          `${countText(drawing.steps, "step")}, guidance ${drawing.guidance}`,
      );
      say(`\n${tableHead}`);
      using bar = showProgress("drawing", { total, unit: "picture" });
      const finished: EditEvaluation[] = [];
      const evaluations = await evaluateEdits(pipe, clip, cases, {
        ...drawing,
        lambdas,
        editor,
        signal: interruptSignal(),
        onDrawn: (count) => bar.advance(count),
        async onEvaluation(evaluation) {
          say(tableLine(evaluation));
          finished.push(evaluation);
          await keepPartial({ evaluations: finished });
          if (!values.perEdit) return;
          evaluation.perEdit.forEach((scores, i) =>
            say(
              `${"".padEnd(nameWidth)} ${cells(scores).padEnd(cellsWidth)}  ${
                cases[i].destination || editText(cases[i])
              }`,
            )
          );
        },
      });
      return { evaluations };
    });
  },
});

/** The λ that --lambda takes. */
const lambdaRange = { kind: "number", min: 0 } as const;

const columns = ["efficacy", "generality", "specificity", "unseen"] as const;
const nameWidth = 20, columnWidth = 13, cellsWidth = 4 * (columnWidth + 1) + 5;

const tableHead = ["".padEnd(nameWidth), ...columns.map((name) => name.padEnd(columnWidth)), "harmonic mean"].join(" ");

function tableLine({ lamb, preserve, scores }: EditEvaluation): string {
  const name = lamb === null ? "before" : `λ ${lamb}${preserve ? ", preserve" : ""}`;
  return `${name.padEnd(nameWidth)} ${cells(scores)}`;
}

function cells(scores: EditScores): string {
  const { efficacy, generality, specificity, specificityUnseen, harmonicMean } = scores;
  const tallies = [efficacy, generality, specificity, specificityUnseen].map(cell);
  return [...tallies, Number.isNaN(harmonicMean) ? "-" : harmonicMean.toFixed(3)].join(" ");
}

function cell({ pictures, rate, belief }: Tally): string {
  return (pictures === 0 ? "-" : `${(100 * rate).toFixed(0)} % (${belief.toFixed(3)})`).padEnd(columnWidth);
}
