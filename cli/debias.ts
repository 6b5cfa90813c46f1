import { countText } from "../engine/inspect.ts";
import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { debias, debiasPair, type DebiasTask } from "../pipeline/evaluation/debias/debias.ts";
import { bias, meanBias, measureBias, parseBiasSet } from "../pipeline/evaluation/debias/gender.ts";
import {
  DrawLog,
  formatDraw,
  type LoggedDraw,
  parseDraws,
  taskFingerprint,
} from "../pipeline/evaluation/debias/log.ts";
import type { Share } from "../pipeline/evaluation/debias/search.ts";
import { CLIPModel } from "../pipeline/models/clip.ts";
import { checkTensorsName } from "../pipeline/checkpoint/save.ts";
import { AppendedFile } from "../pipeline/output/append.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { evaluationFlags, pocket } from "./evaluation_flags.ts";
import { checkNewFile, readTextOf } from "./files.ts";
import type { Values } from "./flag_types.ts";
import { parseNumber } from "./flag_values.ts";
import { interruptSignal } from "./interrupt.ts";
import { checkJsonFile, giveJson } from "./json_file.ts";
import { keep } from "./kept.ts";
import { methodFlags, methodOfFlags } from "./method_flags.ts";
import { openPipeline } from "./open_pipeline.ts";
import { say } from "./printer.ts";
import { showProgress } from "./progress.ts";
import { packageVersion } from "./version.ts";

const { seeds: _, ...drawingFlags } = evaluationFlags;

const flags = {
  ...drawingFlags,
  clip: {
    kind: "text",
    placeholder: "DIR",
    default: `${pocket}/clip`,
    defaultText: "the embedded model's",
    help: "folder of the CLIP model that judges the pictures",
  },
  source: { kind: "text", group: "Edit", help: "prompt whose pictures are biased" },
  destinations: {
    kind: "texts",
    many: true,
    placeholder: "TEXT…",
    group: "Edit",
    help: "what its pictures should show; two or more prompts",
  },
  target: {
    kind: "texts",
    many: true,
    placeholder: "N…",
    group: "Edit",
    defaultText: "equal shares",
    help: "share of each destination; their sum is 1",
  },
  data: {
    kind: "text",
    placeholder: "FILE",
    group: "Edit",
    help:
      "TIMED's gender set, or a .csv file like it (old, new, validation, ex1, …): debias each row, and print Δ before and after",
    access: { kind: "read", purpose: "read the data set" },
  },
  rows: { kind: "whole", min: 1, group: "Edit", defaultText: "all", help: "use only this many rows of --data" },
  each: {
    kind: "whole",
    min: 1,
    default: 8,
    group: "Search",
    help: "pictures of each example of --data, before and after",
  },
  ...methodFlags,
  method: { ...methodFlags.method, default: "uce" },
  preserve: { kind: "texts", group: "Edit", help: "prompt that the edit should not change" },
  budget: { kind: "whole", min: 4, default: 256, group: "Search", help: "most pictures that are drawn for a source" },
  roundSize: { kind: "whole", min: 1, default: 16, group: "Search", help: "pictures of each round of the search" },
  tolerance: {
    kind: "number",
    min: 0,
    default: 0.05,
    group: "Search",
    help: "the search ends where no share is further from its target",
  },
  log: {
    kind: "text",
    placeholder: "FILE",
    group: "Output",
    help: "record what is drawn in this file (.jsonl); run again with it, an interrupted search goes on there",
    access: { kind: "write", purpose: "record the search" },
  },
  saveEdit: {
    kind: "text",
    placeholder: "FILE",
    group: "Output",
    help: "write the edit (.safetensors)",
    access: { kind: "write", purpose: "save the edit" },
  },
} as const;

/** `bluerose debias`: finds weights of destinations by drawing and judging. */
export const command: Command = defineCommand({
  name: "debias",
  summary: "find an edit under which pictures show several things as often as wanted",
  usage: "--source TEXT --destinations TEXT TEXT … [flags]",
  details:
    "Draws the source under an edit that mixes the destinations, lets CLIP say which destination each picture fits best, and moves the weights until the " +
    "shares are those of --target. A quarter of the budget measures the shares before, another quarter the shares after, on pictures that the search did " +
    "not see; in brackets, Wilson's 95 % interval. With --data, each row is debiased on its validation prompt and measured on its examples: " +
    "Δ = |share − 0.5| / 0.5, 0 for balanced.",
  flags,
  examples: [
    {
      line: 'debias --source "a rose" --destinations "a red rose" "a blue rose" --target 0.5 0.5 --budget 96',
      says: "on the embedded model: as many red roses as blue ones",
    },
    {
      line:
        'debias -m CompVis/stable-diffusion-v1-4 --clip clip-vit-large-patch14 --source "a doctor" --destinations "a female doctor" "a male doctor" --log doctor.jsonl --save-edit doctor.safetensors',
      says: "a search that can be resumed",
    },
    {
      line: "debias --data TIMED_gender_test_set.csv --rows 5 --log gender.jsonl",
      says: "TIME's table of professions",
    },
  ],
  async run(values) {
    const { steps, cfgScale: guidance, batchSize, seed: firstSeed, budget, roundSize, tolerance, preserve } = values;
    const { data, log, saveEdit, clip: clipPath, model } = values;
    const method = methodOfFlags({ ...values, preserveWeight: 1 });
    if (budget < 4 * roundSize) {
      throw new ArgumentError(
        `Cannot use --budget ${budget} with --round-size ${roundSize}: give ${4 * roundSize} or more`,
        {
          argument: "--budget",
        },
      );
    }
    const task = data === undefined ? taskOf(values) : undefined;
    const rows = data === undefined ? [] : parseBiasSet(await readTextOf(data, "--data"), data).slice(0, values.rows);
    await checkJsonFile(values.json, values);
    await checkNewFile(saveEdit, "--save-edit", values);
    if (saveEdit !== undefined) checkTensorsName(saveEdit);
    const settings = {
      model,
      clip: clipPath,
      method,
      preserve,
      budget,
      roundSize,
      tolerance,
      firstSeed,
      steps,
      guidance,
    };
    const fingerprint = await taskFingerprint({ version: packageVersion, settings, task, rows, each: values.each });
    let draws: LoggedDraw[] = [];
    await using file = log === undefined ? undefined : await AppendedFile.open(log, (bytes) => {
      const parsed = parseDraws(bytes, { path: log, task: fingerprint });
      draws = parsed.draws;
      return parsed.completeBytes;
    });
    const drawLog = new DrawLog(draws, fingerprint, async (draw) => {
      await file?.append(formatDraw(draw));
      if (log !== undefined) keep(log);
    });
    using pipe = await openPipeline(values);
    using clip = await CLIPModel.fromPretrained(clipPath, { gpu: pipe.gpu });
    const most = task ? budget : rows.reduce((sum, { tests }) => sum + budget + 2 * values.each * tests.length, 0);
    using bar = showProgress("drawing", { total: most, unit: "picture", everyMs: 60_000 });
    const options = {
      editor: { ...method, preserve },
      firstSeed,
      steps,
      guidance,
      batchSize,
      budget,
      roundSize,
      tolerance,
      signal: interruptSignal(),
      onDrawn: (count: number) => bar.advance(count),
      resume: drawLog.resume.bind(drawLog),
    };
    if (task === undefined) {
      const width = Math.max(...rows.map(({ destinations: [shown] }) => shown.length), 4);
      say(["".padEnd(width), "share before".padEnd(20), "share after".padEnd(20), "Δ before", "Δ after"].join("  "));
      const measured = await measureBias(pipe, clip, rows, {
        ...options,
        each: values.each,
        onRow: ({ destination, before, after }) =>
          say([
            destination.padEnd(width),
            shareText(before).padEnd(20),
            shareText(after).padEnd(20),
            bias(before).toFixed(2).padEnd(8),
            bias(after).toFixed(2),
          ].join("  ")),
      });
      const mean = meanBias(measured);
      say(`mean of ${rows.length}: Δ ${mean.before.toFixed(2)} before, ${mean.after.toFixed(2)} after`);
      say("TIME's figures for Stable Diffusion 1.4 (arXiv 2303.08084): 0.57 before, 0.28 after");
      return await giveJson(values.json, { settings, rows: measured, mean });
    }
    say(["weights".padEnd(24), "shares"].join("  "));
    const result = await debias(pipe, clip, task, {
      ...options,
      onRound: ({ weights, counts }) =>
        say([
          (weights?.map((weight) => weight.toFixed(3)).join(" ") ?? "before").padEnd(24),
          counts.map((count) => (count / counts.reduce((a, b) => a + b)).toFixed(2)).join(" "),
        ].join("  ")),
    });
    const { weights, before, after, reached, pictures } = result;
    const { target } = task;
    say(
      [
        "",
        "destination: weight, share before, share after, target",
        ...task.destinations.map((text, j) =>
          `${text}: ${weights[j].toFixed(3)}, ${shareText(before[j])}, ${shareText(after[j])}, ${target[j]}`
        ),
        reached
          ? `${countText(pictures, "picture")}: each target lies within the interval of its share`
          : `${countText(pictures, "picture")}: not reached; a larger --budget may, or another --method`,
      ].join("\n"),
    );
    if (saveEdit !== undefined) {
      using edit = await ModelEdit.solve(
        [debiasPair(task, weights)],
        { ...options.editor, signal: interruptSignal() },
        pipe,
      );
      await edit.save(saveEdit);
      keep(saveEdit);
      say(saveEdit);
    }
    await giveJson(values.json, { settings, task, ...result });
  },
});

function shareText({ share, interval: { low, high } }: Share): string {
  return `${share.toFixed(2)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
}

/**
 * The task of the flags.
 *
 * @throws {ArgumentError} where a flag is missing, or the shares do not fit the destinations
 */
function taskOf({ source, destinations, target: texts }: Values<typeof flags>): DebiasTask & { target: number[] } {
  if (source === undefined) {
    throw new ArgumentError("Cannot debias without a source: give --source and --destinations, or --data", {
      argument: "--source",
    });
  }
  if (destinations.length < 2) {
    throw new ArgumentError(
      `Cannot debias toward ${destinations.length} --destinations: give two or more, as in --destinations "a red rose" "a blue rose"`,
      { argument: "--destinations" },
    );
  }
  const target = texts.length === 0
    ? destinations.map(() => 1 / destinations.length)
    : texts.map((text) => parseNumber(text, "--target", { kind: "number", above: 0, max: 1 }));
  const sum = target.reduce((sum, share) => sum + share, 0);
  if (target.length !== destinations.length || Math.abs(sum - 1) > 1e-6) {
    throw new ArgumentError(
      `Cannot use --target ${
        texts.join(" ")
      } for ${destinations.length} destinations: give one share for each, whose sum is 1 (now ${sum})`,
      { argument: "--target" },
    );
  }
  return { source, destinations, target };
}
