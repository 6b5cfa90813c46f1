import { type EditReport, ModelEdit } from "../pipeline/editing/model_edit.ts";
import { suggestPreserve } from "../pipeline/editing/leakage.ts";
import { ArgumentError } from "./arguments.ts";
import { type Command, defineCommand } from "./command.ts";
import { applySampling, modelFlags, onInterrupt, openPipeline, samplingFlags } from "./drawing.ts";
import { editLine } from "./edit_line.ts";
import { pairsOfFile, pairsOfFlags } from "./edit_pairs.ts";
import { writeBeforeAfterSheet } from "./sheet.ts";

/** `bluerose edit`: one edit, of one or many pairs; looked at, foretold, kept. */
export const command: Command = defineCommand({
  name: "edit",
  summary: "edit a model and look at it before and after; keep the edit",
  usage: "-m MODEL --source S --destination D [-p PROMPT …] [flags]",
  details:
    "Solves the edit that makes each source prompt mean its destination. With prompts (-p), draws them before and after, from one seed, " +
    "side by side. --report foretells, without drawing, how far prompts will move: the candidates for --preserve. " +
    "The edit is kept with --save-edit (for bluerose generate --edit), --export-lora (for A1111, ComfyUI, diffusers) or --save-model.",
  flags: {
    ...modelFlags,
    source: { kind: "texts", group: "Edit", help: "under-specified prompt" },
    destination: {
      kind: "texts",
      group: "Edit",
      help: "what it should mean: the same words and more; one for each source",
    },
    pairs: {
      kind: "text",
      placeholder: "FILE",
      group: "Edit",
      help: "pairs from a .json or .csv file with source, destination (and weight)",
    },
    lambda: { kind: "number", default: 0.1, above: 0, group: "Edit", help: "how firmly everything else is held" },
    valuesOnly: { kind: "switch", group: "Edit", help: "edit the projections to values, and leave those to keys" },
    preserve: { kind: "texts", group: "Edit", help: "prompt to keep as it is" },
    preserveWeight: {
      kind: "number",
      default: 1,
      above: 0,
      group: "Edit",
      help: "how much a preserved prompt counts beside a pair",
    },
    layers: {
      kind: "texts",
      placeholder: "PREFIX",
      group: "Edit",
      help: "edit only layers whose path begins so: up_blocks.1, mid_block, …",
    },
    prompt: {
      kind: "texts",
      alias: "p",
      group: "Look",
      help: "prompt to draw before and after",
    },
    output: {
      kind: "text",
      alias: "o",
      default: "edit.png",
      placeholder: "FILE",
      group: "Look",
      help: "where to write the sheet",
    },
    report: {
      kind: "switch",
      group: "Look",
      help: "print the alignment, and how far the prompts (-p, --candidates) will move",
    },
    candidates: {
      kind: "text",
      placeholder: "FILE",
      group: "Look",
      help: "prompts, one a line, of which --report suggests those to preserve",
    },
    saveEdit: { kind: "text", placeholder: "FILE", group: "Keep", help: "write the edit (.safetensors)" },
    exportLora: { kind: "text", placeholder: "FILE", group: "Keep", help: "write the edit as a LoRA (.safetensors)" },
    rank: { kind: "whole", min: 1, group: "Keep", help: "rank of the LoRA (default: exact)" },
    loraFormat: {
      kind: "text",
      choices: ["kohya", "diffusers"],
      default: "kohya",
      group: "Keep",
      help: "how the LoRA's keys are spelled",
    },
    loraDtype: { kind: "text", choices: ["f32", "f16"], default: "f32", group: "Keep", help: "precision of the LoRA" },
    saveModel: {
      kind: "text",
      placeholder: "DIR",
      group: "Keep",
      help: "write the whole model with the edit in its weights",
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
      says: "keep tulips as they are, see what moves, and take the edit elsewhere",
    },
  ],
  async run(values) {
    const { source, destination, preserve, preserveWeight, lambda: lamb } = values;
    const fromFile = values.pairs === undefined ? [] : pairsOfFile(await Deno.readTextFile(values.pairs), values.pairs);
    const pairs = [...pairsOfFlags(source, destination), ...fromFile];
    if (pairs.length === 0) {
      throw new ArgumentError("Cannot edit without a pair: give --source and --destination, or --pairs", {
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
      await printForetold(edit, [...values.prompt, ...candidates]);
      if (candidates.length > 0) {
        const endangered = (await suggestPreserve(edit, candidates)).filter(({ warning }) => warning);
        if (endangered.length > 0) {
          console.log(
            `To keep them as they are: ${
              endangered.map(({ prompt }) => `--preserve ${JSON.stringify(prompt)}`).join(" ")
            }`,
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

async function printForetold(edit: ModelEdit, prompts: readonly string[]): Promise<void> {
  if (prompts.length === 0) return;
  const rows = await edit.foretell([...new Set(prompts)]);
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
