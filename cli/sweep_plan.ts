import { writeText } from "../pipeline/output/file.ts";
import { formatPlan, parseDataSet } from "../pipeline/evaluation/sweep/files.ts";
import { planSweep, promptsOfRow } from "../pipeline/evaluation/sweep/plan.ts";
import { type Command, defineCommand } from "./command.ts";
import { checkNewFile, overwriteFlag, readTextOf } from "./files.ts";
import { say, sayJson } from "./printer.ts";
import { checkSampler } from "./sampler.ts";
import { embeddedClip, embeddedModel } from "./embedded_model.ts";

/** Plans hold seeds as numbers of JSON, which are exact up to 2⁵³. */
const largestFirstSeed = 2n ** 52n;

/** `bluerose sweep plan`: writes the jobs of a sweep. */
export const command: Command = defineCommand({
  name: "sweep plan",
  summary: "write the jobs of a sweep: rows of a data set × seeds",
  usage: "--data FILE.csv -o plan.json [flags]",
  details:
    "The data set is CSV in TIMED's format: old, new, positive1, gt1, …, negative1, gn1, …. Each row and seed makes one job, which draws the row's " +
    "source, related and unrelated prompts.",
  flags: {
    data: {
      kind: "text",
      placeholder: "FILE.csv",
      required: true,
      help: "data set",
      access: { kind: "read", purpose: "read the data set" },
    },
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
    method: {
      kind: "text",
      choices: ["edit", "baseline", "oracle"],
      default: "edit",
      help:
        "edit: the edited model; baseline: the unedited model; oracle: the unedited model, prompted with the destination",
    },
    lambda: { kind: "number", default: 0.1, above: 0, help: "regularization λ of the edit: larger values change less" },
    valuesOnly: { kind: "switch", help: "edit only the value projections, not the key projections" },
    model: { kind: "text", alias: "m", placeholder: "MODEL", default: embeddedModel, help: "model to edit" },
    variant: { kind: "text", help: 'which weights of a folder to load, such as "fp16"' },
    clip: {
      kind: "text",
      placeholder: "DIR",
      default: embeddedClip,
      help: "folder of the CLIP model that scores the pictures",
    },
    steps: { kind: "whole", default: 50, min: 1, help: "denoising steps" },
    cfgScale: { kind: "number", default: 7.5, min: 0, help: "classifier-free guidance scale; 1 or less disables it" },
    samplingMethod: { kind: "text", placeholder: "NAME", defaultText: "the model's own", help: "sampler" },
  },
  examples: [
    {
      line:
        "sweep plan --data TIMED_test_set.csv -m runwayml/stable-diffusion-v1-5 --clip clip-vit-large-patch14 --seeds 8",
      says: "the paper's evaluation",
    },
    {
      line: "sweep plan --data TIMED_validation_set.csv --rows 2 --seeds 1 --steps 10 -o small.json",
      says: "a small sweep",
    },
  ],
  async run({ data, output, rows: limit, seeds, seed, overwrite, ...settings }) {
    const { samplingMethod } = settings;
    // fails early for an unknown name
    checkSampler({ samplingMethod });
    const rows = parseDataSet(await readTextOf(data, "--data"), data).slice(0, limit);
    await checkNewFile(output, "--output", { overwrite });
    const plan = planSweep(rows, { seeds, firstSeed: Number(seed) }, settings);
    await writeText(output, formatPlan(plan));
    const pictures = rows.reduce((sum, row) => sum + promptsOfRow(row).length, 0) * seeds;
    sayJson({ path: output, edits: rows.length, jobs: plan.jobs.length, pictures });
    say(`${output}: ${rows.length} edits, ${plan.jobs.length} jobs, ${pictures} pictures`);
  },
});
