import { countText } from "../engine/inspect.ts";
import { missingPictures, pendingBatches } from "../pipeline/evaluation/sweep/batches.ts";
import { formatResult, parsePlan, parseResults } from "../pipeline/evaluation/sweep/files.ts";
import { checkPins } from "../pipeline/evaluation/sweep/pins.ts";
import { jobsOfShard, type SweepResult } from "../pipeline/evaluation/sweep/plan.ts";
import { runSweep } from "../pipeline/evaluation/sweep/run.ts";
import { AppendedFile } from "../pipeline/output/append.ts";
import { checkOutput } from "../pipeline/output/target.ts";
import { CLIPModel } from "../pipeline/models/clip.ts";
import { type Command, defineCommand } from "./command.ts";
import { resolveModel } from "./embedded_model.ts";
import { deferTermination, interruptSignal } from "./interrupt.ts";
import { keep, unkeep } from "./kept.ts";
import { bytesOf } from "./files.ts";
import { say, sayJson } from "./printer.ts";
import { showProgress } from "./progress.ts";
import { chooseShard } from "./shard.ts";
import { openSweepModel, saveSweepPictures } from "./sweep_pictures.ts";
import { findPins } from "./sweep_pins.ts";
import { packageVersion } from "./version.ts";

/** Where no terminal is, a line of progress is written this often. */
const logEveryMs = 60_000;

/** `bluerose sweep run`: draws and scores one shard of a plan. */
export const command: Command = defineCommand({
  name: "sweep run",
  summary: "draw one shard of a plan and score each picture with CLIP",
  usage: "PLAN [--shard K/N] -o RESULTS.jsonl [flags]",
  details:
    "Appends one line of JSON per picture, batch by batch. After an interruption, run it again with the same -o: it draws only what is missing. " +
    "In an array job of Slurm, Kubernetes, HyperQueue or AWS Batch, the task draws its own shard. SIGTERM lets the batch be finished and exits with 75 " +
    "if pictures remain. The safety checker is not run, as the pictures are scored and not shown.",
  positionals: { placeholder: "PLAN", min: 1, max: 1, access: { kind: "read", purpose: "read the plan" } },
  flags: {
    shard: {
      kind: "text",
      placeholder: "K/N",
      defaultText: "the array job's task, else the whole plan",
      help: "draw shard K of N, such as 2/8",
    },
    shards: {
      kind: "whole",
      min: 1,
      defaultText: "BLUEROSE_SHARDS, or the scheduler's number of tasks",
      help: "number of shards of the array job, whose tasks count from 0",
    },
    output: {
      kind: "text",
      alias: "o",
      placeholder: "FILE",
      default: "results.jsonl",
      help: "file to append the results to; {shard} stands for the shard's number",
      access: { kind: "write", purpose: "write the results" },
    },
    batchSize: { kind: "whole", default: 8, min: 1, help: "pictures per batch" },
    pictures: {
      kind: "text",
      placeholder: "DIR",
      help: "save the pictures in this folder",
      access: { kind: "write", purpose: "write the pictures" },
    },
    anyModel: { kind: "switch", help: "draw with another model, or another CLIP model, than the plan was made for" },
    anyVersion: { kind: "switch", help: "draw with another version of Blue Rose than the plan was made for" },
    offline: { kind: "switch", help: "use only the hub's cache, never the network" },
  },
  examples: [
    { line: "sweep run plan.json --shard 2/8 -o part2.jsonl", says: "the second of eight shards" },
    { line: "sweep run plan.json -o part{shard}.jsonl", says: "in an array job: the task's own shard" },
  ],
  async run(values, { positionals: [planPath] }) {
    const { batchSize, pictures, anyModel, anyVersion, offline } = values;
    const { plan, fingerprint } = await parsePlan(await bytesOf(planPath, "PLAN"), planPath);
    const shard = chooseShard(values);
    const output = values.output.replaceAll("{shard}", String(shard.index));
    const pinned = { path: planPath, anyModel, anyVersion };
    checkPins(plan.pins, { version: packageVersion }, pinned);
    if (pictures !== undefined) await checkOutput(`${pictures}/picture.png`);
    let results: readonly SweepResult[] = [];
    await using file = await AppendedFile.open(output, (bytes) => {
      const { results: parsed, completeBytes } = parseResults(bytes, { path: output, plan, fingerprint });
      results = parsed;
      return completeBytes;
    });
    const batches = pendingBatches(plan, jobsOfShard(plan.jobs, shard), { results, batchSize });
    const total = missingPictures(batches);
    const shown = { path: output, shard: `${shard.index}/${shard.count}` };
    if (total === 0) {
      sayJson({ ...shown, added: 0 });
      return say(`${output}: complete, nothing to draw`);
    }
    using termination = deferTermination();
    const { model, variant, clip: clipPath, pins: { revision } } = plan;
    checkPins(plan.pins, await findPins({ model, revision, variant, clip: clipPath, offline }), pinned);
    using pipe = await openSweepModel(plan, offline);
    using clip = await CLIPModel.fromPretrained(await resolveModel(clipPath), { gpu: pipe.gpu });
    using bar = showProgress(shard.count > 1 ? `shard ${shown.shard}` : "sweeping", {
      total,
      unit: "picture",
      everyMs: logEveryMs,
    });
    const signals = { signal: interruptSignal(), stop: termination.signal };
    const start = performance.now();
    let added = 0;
    for await (const scored of runSweep(pipe, clip, { plan, fingerprint, batches }, signals)) {
      if (pictures !== undefined) await saveSweepPictures(pictures, { pipe, plan, scored, offline });
      await file.append(scored.map(({ result }) => formatResult(result)).join(""));
      if (added > 0) unkeep(`${output} (${added} of ${total} pictures)`);
      keep(`${output} (${added += scored.length} of ${total} pictures)`);
      bar.advance(scored.length);
    }
    const secondsPerPicture = (performance.now() - start) / 1000 / total;
    sayJson({ ...shown, added: total, secondsPerPicture });
    say(`${output}: ${countText(total, "picture")} added, ${secondsPerPicture.toPrecision(3)} s a picture`);
  },
});
