import { parsePlan, parseResults, SweepError } from "../pipeline/evaluation/sweep/files.ts";
import { mergeResults, type SweepSummary } from "../pipeline/evaluation/sweep/merge.ts";
import type { SweepPlan, SweepResult } from "../pipeline/evaluation/sweep/plan.ts";
import { type Command, defineCommand } from "./command.ts";
import { bytesOf, overwriteFlag } from "./files.ts";
import { checkJsonFile, giveJson, jsonFlag } from "./json_file.ts";
import { say } from "./printer.ts";

/** `bluerose sweep merge`: the paper's three measures, from the results of all shards. */
export const command: Command = defineCommand({
  name: "sweep merge",
  summary: "print efficacy, generality and specificity from the results of all shards",
  usage: "PLAN RESULTS.jsonl… [flags]",
  details:
    "As the paper defines them: efficacy, the share of the source prompt's pictures that CLIP finds closer to the destination than to the source; " +
    "generality, the same for related prompts; specificity, the share of unrelated prompts' pictures that stay closer to their own prompt. " +
    "F is the harmonic mean of generality and specificity. ± is the standard error over edits.",
  positionals: {
    placeholder: "PLAN RESULTS…",
    min: 2,
    max: Infinity,
    access: { kind: "read", purpose: "read the plan and the results" },
  },
  flags: {
    partial: { kind: "switch", help: "summarize the results that exist, even if some are missing" },
    overwrite: overwriteFlag,
    json: { ...jsonFlag, help: `${jsonFlag.help}; as --json=FILE, or after the results` },
  },
  examples: [{ line: "sweep merge plan.json part*.jsonl", says: "all shards" }],
  async run({ partial, json, overwrite }, { positionals: [planPath, ...paths] }) {
    await checkJsonFile(json, { overwrite });
    const { plan, fingerprint } = await parsePlan(await bytesOf(planPath, "PLAN"), planPath);
    const results: SweepResult[] = [];
    for (const path of paths) {
      results.push(...parseResults(await bytesOf(path, "RESULTS"), { path, plan, fingerprint }).results);
    }
    const summary = mergeResults(plan, results);
    const { missing, planned, measures, f, edits } = summary;
    if (results.length === 0 || (missing > 0 && !partial)) {
      throw new SweepError(
        `Cannot merge: ${missing} of ${planned} pictures are missing. Run the remaining shards, or summarize what there is with --partial`,
        { path: planPath },
      );
    }
    say(table(plan, summary) + (missing > 0 ? `\n${missing} pictures are missing` : ""));
    const document = { plan: planPath, method: plan.method, missing, measures, f, edits };
    await giveJson(json, document);
  },
});

function table({ method, lambda, model, rows }: SweepPlan, { measures, f }: SweepSummary): string {
  const percent = (value: number) => Number.isNaN(value) ? "    –" : (100 * value).toFixed(1).padStart(5);
  return [
    `${model}, ${method}${method === "edit" ? `, lambda ${lambda}` : ""}: ${rows.length} edits`,
    ...measures.map(({ measure, rate, standardError, pictures }) =>
      `  ${measure.padEnd(11)}  ${percent(rate)} % ± ${percent(standardError).trim()}  (${pictures} pictures)`
    ),
    `  F            ${percent(f)} %`,
  ].join("\n");
}
