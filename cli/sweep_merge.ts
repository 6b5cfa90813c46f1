import { harmonicMean, type JudgedPicture, type Measure, scorePictures } from "../pipeline/evaluation/edit_scores.ts";
import { saveText } from "../pipeline/checkpoint/save.ts";
import { type Command, defineCommand } from "./command.ts";
import {
  keyOf,
  promptsOf,
  readPlan,
  readResults,
  SweepError,
  type SweepPlan,
  type SweepResult,
} from "../pipeline/evaluation/sweep/files.ts";

const measures: readonly Measure[] = ["efficacy", "generality", "specificity"];

/** What one measure came to. */
interface Row {
  readonly measure: Measure;
  readonly pictures: number;
  /** Share of pictures that fit the prompt that they should fit better. */
  readonly rate: number;
  /** Of the rate, over edits: pictures of one edit are not independent. NaN for a single edit. */
  readonly standardError: number;
  readonly belief: number;
}

/** `bluerose sweep merge`: the three numbers of the paper, from all shards. */
export const command: Command = defineCommand({
  name: "sweep merge",
  summary: "print efficacy, generality and specificity from the results of all shards",
  usage: "PLAN RESULTS.jsonl… [flags]",
  details:
    "As the paper defines them: efficacy, the share of the source prompt's pictures that CLIP finds closer to the destination than to the source; " +
    "generality, the same for related prompts; specificity, the share of unrelated prompts' pictures that stay closer to their own prompt. " +
    "F is the harmonic mean of generality and specificity. ± is the standard error over edits.",
  positionals: { placeholder: "PLAN RESULTS…", min: 2, max: Infinity },
  flags: {
    partial: { kind: "switch", help: "print what there is where results are missing" },
    json: { kind: "text", placeholder: "FILE", help: "write the numbers, also for each edit, as JSON" },
  },
  examples: [{ line: "sweep merge plan.json part*.jsonl", says: "all shards together" }],
  async run({ partial, json }, { positionals: [planPath, ...paths] }) {
    const { plan, fingerprint } = await readPlan(planPath);
    const found = new Map<string, SweepResult>();
    for (const path of paths) {
      const { results } = await readResults(path, { fingerprint });
      for (const result of results) found.set(keyOf(result), result); // shards may overlap
    }
    const wanted = plan.jobs.flatMap(({ row, seed }) =>
      promptsOf(plan.rows[row]).map(({ measure, prompt }) => keyOf({ row, seed, measure, prompt }))
    );
    const missing = new Set(wanted).difference(found).size;
    if (found.size === 0 || (missing > 0 && !partial)) {
      throw new SweepError(
        `Cannot merge as ${missing} of ${
          new Set(wanted).size
        } pictures are missing: run the shards that are left, or see what there is with --partial`,
        { path: planPath },
      );
    }
    const results = [...found.values()];
    const rows = measures.map((measure) => tally(results, measure));
    const f = harmonicMean(rows.slice(1).map(({ rate }) => rate));
    console.log(table(plan, rows, f) + (missing > 0 ? `\n${missing} pictures are missing` : ""));
    if (json !== undefined) {
      const edits = plan.rows.map(({ source, destination }, row) => {
        const scores = scorePictures(results.filter((result) => result.row === row).map(judged));
        return { source, destination, ...Object.fromEntries(measures.map((measure) => [measure, scores[measure]])) };
      });
      await saveText(
        json,
        JSON.stringify({ plan: planPath, method: plan.method, missing, measures: rows, f, edits }, null, 2) + "\n",
      );
      console.log(json);
    }
  },
});

function judged({ measure, logits: [own, edited] }: SweepResult): JudgedPicture {
  return { measure, own, edited };
}

function tally(results: readonly SweepResult[], measure: Measure): Row {
  const { rate, pictures, belief } = scorePictures(results.map(judged))[measure];
  const perEdit = [...Map.groupBy(results, ({ row }) => row).values()]
    .map((ofEdit) => scorePictures(ofEdit.map(judged))[measure].rate).filter((rate) => !Number.isNaN(rate));
  const mean = perEdit.reduce((sum, each) => sum + each, 0) / perEdit.length;
  const variance = perEdit.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (perEdit.length - 1);
  return { measure, pictures, rate, standardError: Math.sqrt(variance / perEdit.length), belief };
}

function table(plan: SweepPlan, rows: readonly Row[], f: number): string {
  const { method, lambda, model } = plan;
  const percent = (value: number) => Number.isNaN(value) ? "    –" : (100 * value).toFixed(1).padStart(5);
  return [
    `${model}, ${method}${method === "edit" ? `, lambda ${lambda}` : ""}: ${plan.rows.length} edits`,
    ...rows.map(({ measure, rate, standardError, pictures }) =>
      `  ${measure.padEnd(11)}  ${percent(rate)} % ± ${percent(standardError).trim()}  (${pictures} pictures)`
    ),
    `  F            ${percent(f)} %`,
  ].join("\n");
}
