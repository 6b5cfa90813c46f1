import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { type Drawing, drawPictures } from "../pipeline/evaluation/draw_pictures.ts";
import { encodePicture, type Picture } from "../pipeline/image/picture.ts";
import { CLIPModel } from "../pipeline/models/clip.ts";
import type { StableDiffusionModelEditingPipeline } from "../pipeline/model_editing.ts";
import { samplerByName } from "../schedulers/mod.ts";
import { ArgumentError } from "./arguments.ts";
import { type Command, defineCommand } from "./command.ts";
import { resolveModel } from "./embedded_model.ts";
import { onInterrupt } from "./interrupt.ts";
import { openPipeline } from "./open_pipeline.ts";
import { showProgress } from "./progress.ts";
import {
  keyOf,
  promptsOf,
  readPlan,
  readResults,
  type SweepPlan,
  type SweepPrompt,
  type SweepResult,
} from "../pipeline/evaluation/sweep/files.ts";

/** `bluerose sweep run`: draws and judges a shard of a plan. */
export const command: Command = defineCommand({
  name: "sweep run",
  summary: "draw a shard of a plan and have CLIP judge each picture",
  usage: "PLAN --shard K/N -o RESULTS.jsonl [flags]",
  details:
    "Writes one line of JSON for each picture as it is judged. Stopped and started again with the same -o, it goes on where it was. " +
    "Pictures are judged, not shown, so the safety checker is left out.",
  positionals: { placeholder: "PLAN", min: 1, max: 1 },
  flags: {
    shard: {
      kind: "text",
      placeholder: "K/N",
      default: "1/1",
      help: "which of how many parts of the plan's jobs to do, as in 2/8",
    },
    output: {
      kind: "text",
      alias: "o",
      placeholder: "FILE",
      default: "results.jsonl",
      help: "where to write the results",
    },
    batchSize: { kind: "whole", default: 8, min: 1, help: "pictures drawn at once" },
    pictures: { kind: "text", placeholder: "DIR", help: "keep the pictures in this folder" },
    offline: { kind: "switch", help: "take what the hub's cache has, and ask no network" },
  },
  examples: [{ line: "sweep run plan.json --shard 2/8 -o part2.jsonl", says: "the second of eight parts" }],
  async run(values, { positionals: [planPath] }) {
    const { plan, fingerprint } = await readPlan(planPath);
    const jobs = shardOf(plan.jobs, values.shard);
    const done = await resume(values.output, fingerprint);
    const left = jobs.map(({ row, seed }) => ({
      row,
      seed,
      prompts: promptsOf(plan.rows[row]).filter(({ measure, prompt }) =>
        !done.has(keyOf({ row, seed, measure, prompt }))
      ),
    })).filter(({ prompts }) => prompts.length > 0);
    const total = left.reduce((sum, { prompts }) => sum + prompts.length, 0);
    if (total === 0) return console.log(`${values.output}: nothing is left to do`);
    if (values.pictures !== undefined) await Deno.mkdir(values.pictures, { recursive: true });
    using interrupt = onInterrupt();
    using pipe = await openPlanned(plan, values.offline);
    using clip = await CLIPModel.fromPretrained(await resolveModel(plan.clip), { gpu: pipe.gpu });
    using bar = showProgress("sweeping", { total });
    using file = await Deno.open(values.output, { append: true, create: true });
    for (const { row, seed, prompts } of left) {
      using edit = await editOf(pipe, plan, row);
      const drawings = prompts.map((prompt): Drawing => ({ prompt: drawnPrompt(plan, prompt), seed, edit }));
      const pictures = await drawPictures(pipe, drawings, {
        steps: plan.steps,
        guidance: plan.cfgScale,
        batchSize: values.batchSize,
        signal: interrupt.signal,
        onDrawn: (count) => bar.advance(count),
      });
      const lines: string[] = [];
      for (const [i, picture] of pictures.entries()) {
        const { measure, prompt, edited } = prompts[i];
        const [own, other] = await clip.score([picture], [prompt, edited]);
        const fits = other > own ? "destination" : "source";
        const result: SweepResult = {
          plan: fingerprint,
          row,
          seed,
          measure,
          prompt,
          edited,
          logits: [own, other],
          fits,
        };
        lines.push(JSON.stringify(result) + "\n");
        if (values.pictures !== undefined) {
          await keep(`${values.pictures}/${row}_${seed}_${measure}_${i}.png`, picture, result);
        }
      }
      await writeAll(file, lines.join(""));
    }
    console.log(`${values.output}: ${total} pictures more`);
  },
});

/**
 * Every N-th job from the K-th on: rows are spread over shards, so that none has all the hard ones.
 */
function shardOf<T>(jobs: readonly T[], shard: string): T[] {
  const [, k, n] = /^(\d+)\/(\d+)$/.exec(shard)?.map(Number) ?? [];
  if (k === undefined || k < 1 || k > n) {
    throw new ArgumentError(`Cannot use --shard ${JSON.stringify(shard)}: it takes K/N with K from 1 to N, as in 2/8`, {
      argument: "--shard",
    });
  }
  return jobs.filter((_, i) => i % n === k - 1);
}

/** The keys of what a file holds already; a line that was cut off is taken out of it. */
async function resume(path: string, fingerprint: string): Promise<Set<string>> {
  const exists = await Deno.stat(path).then(() => true, () => false);
  if (!exists) return new Set();
  const { results, wholeBytes } = await readResults(path, { fingerprint });
  await Deno.truncate(path, wholeBytes);
  return new Set(results.map(keyOf));
}

async function openPlanned(plan: SweepPlan, offline: boolean): Promise<StableDiffusionModelEditingPipeline> {
  const pipe = await openPipeline({
    model: plan.model,
    variant: plan.variant,
    revision: undefined,
    offline,
    tokenizer: undefined,
    safetyChecker: false,
    activations: "f32",
    lora: [],
    textualInversion: [],
  });
  if (plan.samplingMethod !== undefined) pipe.scheduler = samplerByName(plan.samplingMethod, pipe.scheduler.config);
  return pipe;
}

async function editOf(
  pipe: StableDiffusionModelEditingPipeline,
  plan: SweepPlan,
  row: number,
): Promise<ModelEdit | undefined> {
  if (plan.method !== "edit") return undefined;
  const { source, destination } = plan.rows[row];
  return await ModelEdit.solve([{ source, destination }], { lamb: plan.lambda, withToK: !plan.valuesOnly }, pipe);
}

/** The oracle is asked outright for what an edit would have to reach. */
function drawnPrompt({ method }: SweepPlan, { measure, prompt, edited }: SweepPrompt): string {
  return method === "oracle" && measure !== "specificity" ? edited : prompt;
}

async function keep(path: string, picture: Picture, result: SweepResult): Promise<void> {
  const text = { parameters: result.prompt, bluerose: JSON.stringify(result) };
  await Deno.writeFile(path, await encodePicture(picture, "png", { text }));
}

async function writeAll(file: Deno.FsFile, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}
