import { saveText } from "../pipeline/checkpoint/save.ts";
import { samplerByName } from "../schedulers/mod.ts";
import { type Command, defineCommand } from "./command.ts";
import { parseDataSet, promptsOf, type SweepPlan } from "../pipeline/evaluation/sweep/files.ts";
import { embeddedClip, embeddedModel } from "./embedded_model.ts";

/** `bluerose sweep plan`: a data set, seeds and settings to a file of jobs. */
export const command: Command = defineCommand({
  name: "sweep plan",
  summary: "write what is to be drawn: rows of a data set × seeds",
  usage: "--data FILE.csv -o plan.json [flags]",
  details:
    "The data set is CSV as TIMED has it: old, new, positive1, gt1, …, negative1, gn1, …. Each row and seed becomes a job, which draws the row's " +
    "source prompt, its related and its unrelated prompts.",
  flags: {
    data: { kind: "text", placeholder: "FILE.csv", required: true, help: "data set" },
    output: { kind: "text", alias: "o", placeholder: "FILE", default: "plan.json", help: "where to write the plan" },
    rows: { kind: "whole", min: 1, help: "take the first rows alone" },
    seeds: { kind: "whole", min: 1, default: 8, help: "pictures of each prompt" },
    seed: { kind: "whole", min: 0, default: 0, alias: "s", help: "seed of each prompt's first picture" },
    method: {
      kind: "text",
      choices: ["edit", "baseline", "oracle"],
      default: "edit",
      help:
        "edit: the edited model; baseline: the model as it is; oracle: the model as it is, asked for the destination",
    },
    lambda: { kind: "number", default: 0.1, above: 0, help: "how firmly everything else is held" },
    valuesOnly: { kind: "switch", help: "edit the projections to values, and leave those to keys" },
    model: { kind: "text", alias: "m", placeholder: "MODEL", default: embeddedModel, help: "model to edit" },
    variant: { kind: "text", help: 'which weights of a folder: "fp16" for half precision' },
    clip: { kind: "text", placeholder: "DIR", default: embeddedClip, help: "folder of the CLIP model that judges" },
    steps: { kind: "whole", default: 50, min: 1, help: "denoising steps" },
    cfgScale: { kind: "number", default: 7.5, min: 0, help: "classifier-free guidance; none up to 1" },
    samplingMethod: { kind: "text", placeholder: "NAME", help: "sampler (default: the model's own)" },
  },
  examples: [
    {
      line:
        "sweep plan --data TIMED_test_set.csv -m runwayml/stable-diffusion-v1-5 --clip clip-vit-large-patch14 --seeds 8",
      says: "the paper's evaluation",
    },
    {
      line: "sweep plan --data TIMED_validation_set.csv --rows 2 --seeds 1 --steps 10 -o small.json",
      says: "a small one",
    },
  ],
  async run(values) {
    const { data, output, seeds, seed, samplingMethod, ...rest } = values;
    if (samplingMethod !== undefined) samplerByName(samplingMethod); // refuses unknown names now rather than later
    const rows = parseDataSet(await Deno.readTextFile(data), data).slice(0, values.rows);
    const plan: SweepPlan = {
      format: "blue-rose-sweep-1",
      model: rest.model,
      variant: rest.variant,
      clip: rest.clip,
      method: rest.method,
      lambda: rest.lambda,
      valuesOnly: rest.valuesOnly,
      steps: rest.steps,
      cfgScale: rest.cfgScale,
      samplingMethod,
      rows,
      jobs: rows.flatMap((_, row) => Array.from({ length: seeds }, (_, i) => ({ row, seed: seed + i }))),
    };
    await saveText(output, JSON.stringify(plan, null, 1) + "\n");
    const pictures = rows.reduce((sum, row) => sum + promptsOf(row).length, 0) * seeds;
    console.log(`${output}: ${rows.length} edits, ${plan.jobs.length} jobs, ${pictures} pictures`);
  },
});
