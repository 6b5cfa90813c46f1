import { type EditReport, ModelEdit } from "../pipeline/editing/model_edit.ts";
import { suggestPreserve } from "../pipeline/editing/leakage.ts";
import { parseEditPairs } from "../pipeline/editing/prompts/pair_file.ts";
import { ArgumentError } from "./arguments.ts";
import { type Command, defineCommand } from "./command.ts";
import { lambdaFlag, modelFlags, samplingFlags } from "./flags.ts";
import { onInterrupt } from "./interrupt.ts";
import { applySampling, openPipeline } from "./open_pipeline.ts";
import { editLine } from "./edit_line.ts";
import { pairsOfFlags } from "./edit_pairs.ts";
import { writeBeforeAfterSheet } from "./sheet.ts";

/** `bluerose edit`: solves one edit from one or more pairs; draws, reports and saves it. */
export const command: Command = defineCommand({
  name: "edit",
  summary: "edit a model, draw before and after, and save the edit",
  usage: "-m MODEL --source S --destination D [-p PROMPT …] [flags]",
  details:
    "Solves the edit that makes the model treat each source prompt like its destination. Prompts (-p) are drawn before and after the edit, with one seed, " +
    "side by side. --report predicts, without drawing, how much the edit changes each prompt. " +
    "Save the edit with --save-edit (for bluerose generate --edit), --export-lora (for A1111, ComfyUI, diffusers) or --save-model.",
  flags: {
    ...modelFlags,
    source: { kind: "texts", group: "Edit", help: "under-specified prompt; one for each --destination" },
    destination: {
      kind: "texts",
      group: "Edit",
      help: "the source prompt with words added; one for each --source",
    },
    pairs: {
      kind: "text",
      placeholder: "FILE",
      group: "Edit",
      help: ".json or .csv file of pairs: source, destination and optionally weight",
    },
    lambda: { ...lambdaFlag, group: "Edit" },
    valuesOnly: { kind: "switch", group: "Edit", help: "edit the value projections only, not the key projections" },
    preserve: { kind: "texts", group: "Edit", help: "prompt that the edit should not change" },
    preserveWeight: {
      kind: "number",
      default: 1,
      above: 0,
      group: "Edit",
      help: "weight of a preserved prompt, relative to a pair",
    },
    layers: {
      kind: "texts",
      placeholder: "PREFIX",
      group: "Edit",
      help: "edit only layers whose path starts with PREFIX, such as up_blocks.1 or mid_block",
    },
    prompt: {
      kind: "texts",
      alias: "p",
      group: "Output",
      help: "prompt to draw before and after",
    },
    output: {
      kind: "text",
      alias: "o",
      default: "edit.png",
      placeholder: "FILE",
      group: "Output",
      help: "picture file for the prompts before and after (.png or .jpg)",
    },
    report: {
      kind: "switch",
      group: "Output",
      help: "print the alignment and the predicted change of each prompt (-p, --candidates)",
    },
    candidates: {
      kind: "text",
      placeholder: "FILE",
      group: "Output",
      help: "text file with one prompt per line; --report suggests which of them to preserve",
    },
    saveEdit: { kind: "text", placeholder: "FILE", group: "Save", help: "write the edit (.safetensors)" },
    exportLora: { kind: "text", placeholder: "FILE", group: "Save", help: "write the edit as a LoRA (.safetensors)" },
    rank: {
      kind: "whole",
      min: 1,
      group: "Save",
      help: "rank of the LoRA (default: the edit's own rank, which is exact)",
    },
    loraFormat: {
      kind: "text",
      choices: ["kohya", "diffusers"],
      default: "kohya",
      group: "Save",
      help: "naming scheme of the LoRA's keys",
    },
    loraDtype: { kind: "text", choices: ["f32", "f16"], default: "f32", group: "Save", help: "dtype of the LoRA" },
    saveModel: {
      kind: "text",
      placeholder: "DIR",
      group: "Save",
      help: "write the whole model with the edit merged into its weights",
    },
    ...samplingFlags,
  },
  examples: [
    {
      line:
        'edit -m models/pocket --source "A cat" --destination "A white cat" -p "a cat" -p "a cat in the snow" -p "a bird" --cfg-scale 5',
      says: "white cats, and a bird that stays blue",
    },
    {
      line:
        'edit -m models/pocket --source "A rose" --destination "A blue rose" --preserve "a tulip" --report -p "a tulip" --export-lora rose.safetensors',
      says: "preserve tulips, predict what changes, and export a LoRA",
    },
  ],
  async run(values) {
    const { source, destination, preserve, preserveWeight, lambda: lamb } = values;
    const fromFile = values.pairs === undefined
      ? []
      : parseEditPairs(await Deno.readTextFile(values.pairs), values.pairs);
    const pairs = [...pairsOfFlags(source, destination), ...fromFile];
    if (pairs.length === 0) {
      throw new ArgumentError("Cannot edit without a pair of prompts: give --source and --destination, or --pairs", {
        argument: "--source",
      });
    }
    const candidates = values.candidates === undefined ? [] : lines(await Deno.readTextFile(values.candidates));
    using interrupt = onInterrupt();
    using pipe = await openPipeline(values);
    applySampling(pipe, values);
    const solve = async () =>
      await ModelEdit.solve(pairs, {
        lamb,
        preserve,
        preserveWeight,
        withToK: !values.valuesOnly,
        layers: values.layers.length > 0 ? values.layers : undefined,
      }, pipe);
    using edit = await solve();
    console.log(editLine(edit.report));
    if (values.report) {
      printReport(edit.report);
      await printPredictions(edit, [...values.prompt, ...candidates]);
      if (candidates.length > 0) {
        const affected = (await suggestPreserve(edit, candidates)).filter(({ warning }) => warning);
        if (affected.length > 0) {
          console.log(
            `To preserve them: ${affected.map(({ prompt }) => `--preserve ${JSON.stringify(prompt)}`).join(" ")}`,
          );
        }
      }
    }
    if (values.prompt.length > 0) {
      const title = pairs.slice(0, 2).map((pair) => `${pair.source} -> ${pair.destination}`).join("; ") +
        (pairs.length > 2 ? `; and ${pairs.length - 2} more` : "");
      await writeBeforeAfterSheet(pipe, values.output, {
        prompts: values.prompt.map((prompt) => ({ prompt })),
        title,
        values,
        signal: interrupt.signal,
        edit: () => {
          pipe.edits.push(edit);
          return Promise.resolve(editLine(edit.report));
        },
      });
      console.log(values.output);
    } else pipe.edits.push(edit);
    if (values.saveEdit !== undefined) {
      await edit.save(values.saveEdit);
      console.log(values.saveEdit);
    }
    if (values.exportLora !== undefined) {
      const { rank, loraFormat, loraDtype } = values;
      const lora = await edit.exportLora(values.exportLora, {
        rank,
        format: loraFormat as "kohya" | "diffusers",
        dtype: loraDtype as "f32" | "f16",
      }, pipe);
      console.log(
        `${lora.path}: rank ${lora.rank}, ${lora.matrices} matrices, truncation error ${
          lora.truncationError.toExponential(1)
        }, ` +
          `rounding error ${lora.roundingError.toExponential(1)}`,
      );
    }
    if (values.saveModel !== undefined) {
      await pipe.savePretrained(values.saveModel);
      console.log(values.saveModel);
    }
    pipe.edits.clear();
  },
});

function lines(text: string): string[] {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}

function printReport(
  { alignments, rows, mergedRows, rank, route, conditionEstimate, residual, limitedBy }: EditReport,
): void {
  console.log(
    `  ${rows} rows, ${mergedRows} after merging; rank ${rank} by ${route}; condition ${
      conditionEstimate.toExponential(1)
    }, ` +
      `residual ${residual.toExponential(1)}`,
  );
  console.log(`  accuracy: ${limitedBy}`);
  for (const { pairs } of alignments.slice(0, 1)) {
    console.log(
      `  alignment: ${
        pairs.map(({ sourceToken, destination, destinationToken }) =>
          `${sourceToken} -> ${destination} ${destinationToken}`
        ).join(", ")
      }`,
    );
  }
}

async function printPredictions(edit: ModelEdit, prompts: readonly string[]): Promise<void> {
  if (prompts.length === 0) return;
  const rows = await edit.predictLeakage([...new Set(prompts)]);
  const width = Math.max(...rows.map(({ prompt }) => prompt.length), 6);
  console.log(`  ${"prompt".padEnd(width)}  moves   of the source's  nearest source`);
  for (const { prompt, leakage, share, nearest, warning } of rows.sort((a, b) => b.leakage - a.leakage)) {
    console.log(
      `  ${prompt.padEnd(width)}  ${leakage.toFixed(4)}  ${
        (100 * share).toFixed(0).padStart(11)
      } %   ${nearest.source} (${nearest.cosine.toFixed(2)})` +
        `${warning ? "  will change" : ""}`,
    );
  }
}
