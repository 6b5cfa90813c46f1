import { countText } from "../engine/inspect.ts";
import { writeText } from "../pipeline/output/file.ts";
import type { PromptPair } from "../pipeline/evaluation/edit_cases.ts";
import { parseDataSet } from "../pipeline/evaluation/sweep/data_sets.ts";
import { formatPlan } from "../pipeline/evaluation/sweep/files.ts";
import { checkSweep, editKey, plannedPictures, planSweep } from "../pipeline/evaluation/sweep/plan.ts";
import { checkErasures, checkRetained } from "../pipeline/evaluation/sweep/check_edits.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { checkNewFile, overwriteFlag, readTextOf } from "./files.ts";
import { say, sayJson } from "./printer.ts";
import { checkSampler } from "./sampler.ts";
import { pairsOfFlags } from "./edit_pairs.ts";
import { embeddedClip, embeddedModel } from "./embedded_model.ts";
import { pocket } from "./evaluation_flags.ts";
import { checkModelChoice } from "./model_choice.ts";
import { promptLines } from "./prompts.ts";
import { findPins } from "./sweep_pins.ts";
import { settingFlags, settingsOfFlags } from "./sweep_settings.ts";

/** Plans hold seeds as numbers of JSON, which are exact up to 2⁵³. */
const largestFirstSeed = 2n ** 52n;

/** `bluerose sweep plan`: writes the jobs of a sweep. */
export const command: Command = defineCommand({
  name: "sweep plan",
  summary: "write the jobs of a sweep: rows of a data set × settings × seeds",
  usage: "--data FILE -o plan.json [flags]",
  details:
    "The data set is recognized by its content: TIMED's CSV (old, new, positive1, gt1, …, negative1, gn1, …), RoAD's CSV (prompt, old, new, oracle, " +
    "positive1, positive_old1, positive_new1, …), a list of prompts as UCE's (case_number, prompt, evaluation_seed; with --source and --destination), or a " +
    "JSON list of edits such as the embedded model's, whose destination \"\" erases the source. Each row, setting and seed makes one job, which draws the row's prompts. The plan pins the model, " +
    "the CLIP model and the version of Blue Rose.",
  flags: {
    data: {
      kind: "text",
      placeholder: "FILE",
      default: `${pocket}/evaluation/edits.json`,
      defaultText: "the embedded model's edits",
      help: "data set: .csv or .json",
      access: { kind: "read", purpose: "read the data set" },
    },
    source: { kind: "texts", help: "source prompt of an edit that a list of prompts is drawn under" },
    destination: { kind: "texts", help: 'destination prompt; one for each --source, "" erases it (uce, nullspace)' },
    jointly: { kind: "switch", help: "solve all --source as one edit of several pairs" },
    output: {
      kind: "text",
      alias: "o",
      placeholder: "FILE",
      default: "plan.json",
      help: "where to write the plan",
      access: { kind: "write", purpose: "write the plan" },
    },
    overwrite: overwriteFlag,
    rows: { kind: "whole", min: 1, defaultText: "all", help: "use only this many rows" },
    seeds: { kind: "whole", min: 1, default: 8, help: "pictures of each prompt" },
    seed: {
      kind: "seed",
      default: 0n,
      max: largestFirstSeed,
      alias: "s",
      help: "seed of each prompt's first picture, 0 to 2^52; -1 draws one",
    },
    ...settingFlags,
    model: {
      kind: "text",
      alias: "m",
      placeholder: "MODEL",
      default: embeddedModel,
      mayRead: true,
      help: "model to edit",
    },
    revision: { kind: "text", defaultText: "main", help: "branch, tag or commit of a model on the hub" },
    offline: { kind: "switch", help: "use only the hub's cache, never the network" },
    variant: { kind: "text", help: 'which weights of a folder to load, such as "fp16"' },
    clip: {
      kind: "text",
      placeholder: "DIR",
      default: embeddedClip,
      help: "folder of the CLIP model that scores the pictures",
    },
    steps: { kind: "whole", default: 50, min: 1, help: "denoising steps" },
    cfgScale: {
      kind: "number",
      defaultText: "7.5; 5 for SDXL",
      min: 0,
      help: "classifier-free guidance scale; 1 or less disables it",
    },
    samplingMethod: { kind: "text", placeholder: "NAME", defaultText: "the model's own", help: "sampler" },
  },
  examples: [
    {
      line:
        "sweep plan --data TIMED_test_set.csv -m stable-diffusion-v1-5/stable-diffusion-v1-5 --clip clip-vit-large-patch14 --method baseline oracle time --lambda 0.01 0.1 1",
      says: "the paper's evaluation, over three λ",
    },
    {
      line:
        "sweep plan --method baseline time uce nullspace --lambda time=0.1 time=1 uce=0.5 --threshold 0.1 0.3 --preserve --seeds 2 --steps 10",
      says: "three editors on the embedded model's edits",
    },
    {
      line: "sweep plan --data TIMED_validation_set.csv --rows 2 --seeds 1 --steps 10 -o small.json",
      says: "a small sweep",
    },
    {
      line: 'sweep plan --data prompts.csv --source "A rose" --destination "A blue rose" --method time baseline',
      says: "a list of prompts, with and without an edit",
    },
  ],
  async run(values) {
    const { data, output, rows: limit, seeds, seed, overwrite, model, revision, variant, clip, offline } = values;
    const { steps, cfgScale, samplingMethod } = values;
    // fails early for an unknown name
    checkSampler({ samplingMethod });
    const settings = settingsOfFlags(values);
    const retained = values.preserveFile === undefined
      ? undefined
      : await promptLines(values.preserveFile, "--preserve-file");
    if (values.jointly && values.source.length < 2) {
      throw new ArgumentError("Cannot solve edits jointly without several --source for a list of prompts", {
        argument: "--jointly",
      });
    }
    const edits = pairsOfFlags(values.source, values.destination)
      .map(({ source, destination }): PromptPair => ({ prompt: source, edited: String(destination) }));
    const rows = parseDataSet(await readTextOf(data, "--data"), data, edits, values).slice(0, limit);
    await checkNewFile(output, "--output", { overwrite });
    checkErasures({ rows, settings }, data);
    checkRetained({ rows, settings, retained }, data);
    const choice = { seeds, firstSeed: Number(seed) };
    checkSweep(rows, choice, { settings });
    await checkModelChoice({ model, revision, variant });
    const pins = await findPins({ model, revision, variant, clip, offline });
    const sweep = { pins, model, variant, clip, settings, retained, steps, cfgScale, samplingMethod };
    const plan = planSweep(rows, choice, sweep);
    await writeText(output, formatPlan(plan));
    const pictures = plannedPictures(plan).size;
    const counts = {
      edits: new Set(rows.map(editKey)).size,
      jobs: plan.jobs.length,
    };
    sayJson({ path: output, ...counts, settings: settings.map(({ name }) => name), pictures });
    const several = settings.length > 1 ? `, ${settings.length} settings` : "";
    say(
      `${output}: ${countText(counts.edits, "edit")}${several}, ${countText(counts.jobs, "job")}, ` +
        countText(pictures, "picture"),
    );
  },
});
