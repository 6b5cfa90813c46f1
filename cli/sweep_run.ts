import { formatResult, parsePlan, parseResults } from "../pipeline/evaluation/sweep/files.ts";
import {
  jobsOfShard,
  pendingJobs,
  promptsOfRow,
  type SweepPlan,
  type SweepResult,
} from "../pipeline/evaluation/sweep/plan.ts";
import { runSweep, type ScoredPicture } from "../pipeline/evaluation/sweep/run.ts";
import { encodePicture } from "../pipeline/image/picture.ts";
import { AppendedFile } from "../pipeline/output/append.ts";
import { writeBytes } from "../pipeline/output/file.ts";
import { checkOutput } from "../pipeline/output/target.ts";
import { exactEdits } from "../pipeline/generation/exact_settings.ts";
import { CLIPModel } from "../pipeline/models/clip.ts";
import type { StableDiffusionModelEditingPipeline } from "../pipeline/model_editing.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { resolveModel } from "./embedded_model.ts";
import { interruptSignal } from "./interrupt.ts";
import { pictureTexts } from "./exact_record.ts";
import { keep, unkeep } from "./kept.ts";
import { openPipeline } from "./open_pipeline.ts";
import { bytesOf } from "./files.ts";
import { say, sayJson } from "./printer.ts";
import { showProgress } from "./progress.ts";

/** `bluerose sweep run`: draws and scores one shard of a plan. */
export const command: Command = defineCommand({
  name: "sweep run",
  summary: "draw one shard of a plan and score each picture with CLIP",
  usage: "PLAN --shard K/N -o RESULTS.jsonl [flags]",
  details:
    "Appends one line of JSON per picture, job by job. After an interruption, run it again with the same -o: it draws only what is missing. " +
    "The safety checker is not run, as the pictures are scored and not shown.",
  positionals: { placeholder: "PLAN", min: 1, max: 1, access: { kind: "read", purpose: "read the plan" } },
  flags: {
    shard: { kind: "text", placeholder: "K/N", default: "1/1", help: "draw shard K of N, such as 2/8" },
    output: {
      kind: "text",
      alias: "o",
      placeholder: "FILE",
      default: "results.jsonl",
      help: "file to append the results to",
      access: { kind: "write", purpose: "write the results" },
    },
    batchSize: { kind: "whole", default: 8, min: 1, help: "pictures per batch" },
    pictures: {
      kind: "text",
      placeholder: "DIR",
      help: "save the pictures in this folder",
      access: { kind: "write", purpose: "write the pictures" },
    },
    offline: { kind: "switch", help: "use only the hub's cache, never the network" },
  },
  examples: [{ line: "sweep run plan.json --shard 2/8 -o part2.jsonl", says: "the second of eight shards" }],
  async run({ shard, output, batchSize, pictures, offline }, { positionals: [planPath] }) {
    const { plan, fingerprint } = await parsePlan(await bytesOf(planPath, "PLAN"), planPath);
    const chosen = parseShard(shard);
    if (pictures !== undefined) await checkOutput(`${pictures}/picture.png`);
    let results: readonly SweepResult[] = [];
    using file = await AppendedFile.open(output, (bytes) => {
      const { results: parsed, completeBytes } = parseResults(bytes, { path: output, plan, fingerprint });
      results = parsed;
      return completeBytes;
    });
    const jobs = pendingJobs(plan, jobsOfShard(plan.jobs, chosen), results);
    const total = jobs.reduce((sum, { prompts }) => sum + prompts.length, 0);
    if (total === 0) {
      sayJson({ path: output, added: 0 });
      return say(`${output}: complete, nothing to draw`);
    }
    using pipe = await openPipeline(valuesOf(plan, offline));
    using clip = await CLIPModel.fromPretrained(await resolveModel(plan.clip), { gpu: pipe.gpu });
    using bar = showProgress("sweeping", { total, unit: "picture" });
    const options = { batchSize, signal: interruptSignal(), onDrawn: (count: number) => bar.advance(count) };
    let added = 0;
    for await (const scored of runSweep(pipe, clip, { plan, fingerprint, jobs }, options)) {
      if (pictures !== undefined) await savePictures(pictures, { pipe, plan, scored, offline });
      await file.append(scored.map(({ result }) => formatResult(result)).join(""));
      if (added > 0) unkeep(`${output} (${added} of ${total} pictures)`);
      keep(`${output} (${added += scored.length} of ${total} pictures)`);
    }
    sayJson({ path: output, added: total });
    say(`${output}: ${total} pictures added`);
  },
});

function parseShard(shard: string): { index: number; count: number } {
  const [, index, count] = /^(\d+)\/(\d+)$/.exec(shard)?.map(Number) ?? [];
  if (index !== undefined && index >= 1 && index <= count) return { index, count };
  throw new ArgumentError(`Cannot use --shard ${JSON.stringify(shard)}: it takes K/N with K from 1 to N, as in 2/8`, {
    argument: "--shard",
  });
}

/** The plan's settings as flags have them. */
function valuesOf({ model, variant, samplingMethod, steps, cfgScale }: SweepPlan, offline: boolean) {
  return {
    model,
    variant,
    revision: undefined,
    offline,
    tokenizer: undefined,
    vae: undefined,
    predictionType: undefined,
    ema: false,
    safetyChecker: false,
    activations: "f32" as const,
    lora: [],
    textualInversion: [],
    negativePrompt: "",
    promptSyntax: "plain" as const,
    loraDir: undefined,
    editNegativePrompt: true,
    width: undefined,
    height: undefined,
    steps,
    cfgScale,
    samplingMethod,
    scheduler: undefined,
    clipSkip: 0,
    vaeTiling: false,
  };
}

/** Names come from indices in the plan, so that a resumed run does not reuse them. */
async function savePictures(
  folder: string,
  { pipe, plan, scored, offline }: {
    pipe: StableDiffusionModelEditingPipeline;
    plan: SweepPlan;
    scored: readonly ScoredPicture[];
    offline: boolean;
  },
): Promise<void> {
  for (const { picture, result, drawn, edit } of scored) {
    const i = promptsOfRow(plan.rows[result.row])
      .findIndex(({ measure, prompt }) => measure === result.measure && prompt === result.prompt);
    const edits = await exactEdits({ edits: edit ? [{ edit, strength: 1, enabled: true }] : [] });
    const textOf = await pictureTexts(pipe, valuesOf(plan, offline), [drawn], { edits });
    const text = textOf({ prompt: drawn, seed: result.seed });
    const bluerose = JSON.stringify({ ...JSON.parse(text.bluerose), sweep: result });
    const path = `${folder}/${result.row}_${result.seed}_${result.measure}_${i}.png`;
    await writeBytes(path, await encodePicture(picture, "png", { text: { ...text, bluerose } }));
  }
}
