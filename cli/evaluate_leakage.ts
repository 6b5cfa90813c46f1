import { countText } from "../engine/inspect.ts";
import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { evaluateLeakage } from "../pipeline/evaluation/evaluate_leakage.ts";
import { ranks } from "../pipeline/evaluation/rank_correlation.ts";
import { type Command, defineCommand } from "./command.ts";
import { interruptSignal } from "./interrupt.ts";
import { openPipeline } from "./open_pipeline.ts";
import { evaluationFlags, pocket } from "./evaluation_flags.ts";
import { InputError } from "./files.ts";
import { checkJsonFile, giveJson } from "./json_file.ts";
import { say } from "./printer.ts";
import { showProgress } from "./progress.ts";
import { methodFlags, methodOfFlags } from "./method_flags.ts";
import { promptLines } from "./prompts.ts";

/** `bluerose evaluate leakage`: predicted against actual change of many prompts. */
export const command: Command = defineCommand({
  name: "evaluate leakage",
  summary: "rank correlation of predicted leakage and the actual change of pictures",
  usage: "[flags]",
  details: [
    "Draws prompts with and without an edit, from the same noise. Drawn: the root mean square difference of the two pictures' bytes, averaged over seeds.",
    "Predicted: ‖X(E − I)ᵀ‖ / ‖X‖ of the prompt's embeddings X. Prints both with their ranks, and the rank correlation (Spearman's ρ).",
  ].join(" "),
  flags: {
    ...evaluationFlags,
    source: { kind: "text", default: "A pack of roses", help: "source prompt of the edit" },
    destination: { kind: "text", default: "A pack of blue roses", help: "destination prompt of the edit" },
    ...methodFlags,
    preserve: { kind: "texts", help: "prompt that the edit should not change" },
    prompts: {
      kind: "text",
      placeholder: "FILE",
      default: `${pocket}/evaluation/prompts.txt`,
      defaultText: "the embedded model's",
      help: "text file with one prompt per line",
      access: { kind: "read", purpose: "read the prompts" },
    },
  },
  examples: [
    { line: "evaluate leakage", says: "48 prompts of the embedded model: 96 pictures, a minute or two on two cores" },
    {
      line: 'evaluate leakage --source "A cat" --destination "A white cat" --seeds 3',
      says: "another edit, less noise",
    },
  ],
  async run(values) {
    const { source, destination, preserve, seeds, seed: firstSeed, steps, batchSize } = values;
    const method = methodOfFlags({ ...values, preserveWeight: 1 });
    const prompts = [...new Set(await promptLines(values.prompts, "--prompts"))];
    if (prompts.length < 2) {
      throw new InputError(
        `Cannot use --prompts ${
          JSON.stringify(values.prompts)
        } as it holds one prompt: a correlation takes at least two`,
        { path: values.prompts },
      );
    }
    await checkJsonFile(values.json, values);
    using pipe = await openPipeline(values);
    using edit = await ModelEdit.solve(
      [{ source, destination }],
      { ...method, preserve, signal: interruptSignal() },
      pipe,
    );
    const { lamb } = edit.recipe;
    const total = 2 * seeds * prompts.length;
    say(
      `${source} -> ${destination}${method.method === "time" ? "" : `, ${method.method}`}, λ ${lamb}: ${
        countText(prompts.length, "prompt")
      }, ${countText(total, "picture")} of ${countText(steps, "step")}`,
    );
    using bar = showProgress("drawing", { total, unit: "picture" });
    const { changes, rankCorrelation, seedAgreement } = await evaluateLeakage(pipe, edit, prompts, {
      seeds,
      firstSeed,
      steps,
      guidance: values.cfgScale,
      batchSize,
      signal: interruptSignal(),
      onDrawn: (count) => bar.advance(count),
    });
    const [predictedRanks, drawnRanks] = (["predicted", "drawn"] as const).map((key) =>
      ranks(changes.map((change) => -change[key]))
    );
    const width = Math.max(...prompts.map((prompt) => prompt.length), 6);
    say(`\n${"prompt".padEnd(width)}  predicted  rank    drawn  rank`);
    for (const i of [...changes.keys()].sort((a, b) => changes[b].drawn - changes[a].drawn)) {
      const { prompt, predicted, drawn } = changes[i];
      const prediction = [predicted.toFixed(4).padStart(9), String(predictedRanks[i]).padStart(4)];
      say(
        [prompt.padEnd(width), ...prediction, drawn.toFixed(2).padStart(7), String(drawnRanks[i]).padStart(4)].join(
          "  ",
        ),
      );
    }
    say(`\nrank correlation (Spearman) ${rankCorrelation.toFixed(3)} over ${changes.length} prompts`);
    if (seeds > 1) say(`the drawn changes of two seeds correlate with ${seedAgreement.toFixed(3)}`);
    const settings = {
      source,
      destination,
      ...method,
      lamb,
      preserve,
      seeds,
      firstSeed,
      steps,
      guidance: values.cfgScale,
    };
    await giveJson(values.json, { settings, rankCorrelation, seedAgreement, changes });
  },
});
