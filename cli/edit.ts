import { countText } from "../engine/inspect.ts";
import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { suggestPreserve } from "../pipeline/editing/leakage.ts";
import { pairsLast } from "../pipeline/editing/prompts/method.ts";
import { Model } from "../pipeline/models/load.ts";
import { parseEditPairs } from "../pipeline/editing/prompts/pair_file.ts";
import { checkAdapterName, checkFolderName, checkTensorsName } from "../pipeline/checkpoint/save.ts";
import { isSafetensors } from "../pipeline/checkpoint/safetensors/format.ts";
import { refuseOwnSource, refuseSourceFile } from "../pipeline/saving_place.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { modelFlags, samplingFlags } from "./flags.ts";
import { interruptSignal } from "./interrupt.ts";
import { applySampling, openPipeline } from "./open_pipeline.ts";
import { checkSampler } from "./sampler.ts";
import { predictionsText, reportText } from "./edit_report.ts";
import { checkDependentFlags, checkSavedAlone, savedSubject, solvedSubject } from "./edit_subject.ts";
import { anyModelFlag, editFlag, parseEdits, pushEdits } from "./edits_of_flags.ts";
import { checkDistinct, checkNewFile, checkNewFolder, overwriteFlag, readTextOf } from "./files.ts";
import { keep } from "./kept.ts";
import { methodFlags, methodOfFlags } from "./method_flags.ts";
import { checkPictures } from "./output_names.ts";
import { requireAccess } from "./permissions.ts";
import { say, sayJson } from "./printer.ts";
import { promptFlags, promptLines, promptsOf } from "./prompts.ts";
import { pairsOfFlags } from "./edit_pairs.ts";
import { writeBeforeAfterSheet } from "./sheet.ts";

/** `bluerose edit`: solves one edit from one or more pairs; draws, reports and saves it. */
export const command: Command = defineCommand({
  name: "edit",
  summary: "edit a model, draw before and after, and save the edit",
  usage: "-m MODEL --source S --destination D|--edit FILE|--lora FILE [-p PROMPT …] [flags]",
  details:
    "Solves the edit that makes the model treat each source prompt like its destination. Prompts (-p) are drawn before and after the edit, with one seed, " +
    "side by side. --method selects the editor: time, uce (erase, moderate or debias concepts) or nullspace (erase; what --preserve lists stays). " +
    "--report predicts, without drawing, how much the edit changes each prompt. " +
    "Save the edit with --save-edit (for bluerose generate --edit), --export-lora (for A1111, ComfyUI, diffusers) or --save-model. " +
    "Without a pair, the saved edits of --edit are drawn, exported and merged into the model. " +
    "Without both, --save-model merges the LoRAs of --lora.",
  flags: {
    ...modelFlags,
    source: { kind: "texts", group: "Edit", help: "under-specified prompt; one for each --destination" },
    destination: {
      kind: "texts",
      group: "Edit",
      help: 'the source prompt with words added; one for each --source. For uce and nullspace any prompt; "" erases',
    },
    pairs: {
      kind: "text",
      placeholder: "FILE",
      group: "Edit",
      help: ".json or .csv file of pairs: source, destination and optionally weight",
      access: { kind: "read", purpose: "read the pairs" },
    },
    ...methodFlags,
    valuesOnly: { kind: "switch", group: "Edit", help: "edit the value projections only, not the key projections" },
    withPooled: {
      kind: "switch",
      group: "Edit",
      help: "map the pooled embedding of SDXL's second text encoder, too",
    },
    preserve: { kind: "texts", group: "Edit", help: "prompt that the edit should not change" },
    preserveFile: {
      kind: "text",
      placeholder: "FILE",
      group: "Edit",
      help: "text file with one more prompt to preserve per line",
      access: { kind: "read", purpose: "read the prompts to preserve" },
    },
    preserveWeight: {
      kind: "number",
      default: 1,
      above: 0,
      group: "Edit",
      help: "weight of a preserved prompt, relative to a pair (not for nullspace)",
    },
    layers: {
      kind: "texts",
      placeholder: "PREFIX",
      group: "Edit",
      help: "edit only layers whose path starts with PREFIX, such as up_blocks.1 or mid_block",
    },
    edit: {
      ...editFlag,
      help: `${editFlag.help}; applied before and after the new edit, or alone where no pair is given`,
    },
    anyModel: anyModelFlag,
    ...promptFlags,
    prompt: { ...promptFlags.prompt, help: "prompt to draw before and after" },
    output: {
      kind: "text",
      alias: "o",
      default: "edit.png",
      placeholder: "FILE",
      group: "Output",
      help: "picture file for the prompts before and after (.png or .jpg)",
    },
    overwrite: overwriteFlag,
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
      access: { kind: "read", purpose: "read the candidates" },
    },
    saveEdit: {
      kind: "text",
      placeholder: "FILE",
      group: "Save",
      help: "write the edit (.safetensors), without those of --edit",
      access: { kind: "write", purpose: "save the edit" },
    },
    exportLora: {
      kind: "text",
      placeholder: "FILE",
      group: "Save",
      help: "write the edit as a LoRA (.safetensors), without those of --edit unless they are all",
      access: { kind: "write", purpose: "save the LoRA" },
    },
    rank: {
      kind: "whole",
      min: 1,
      group: "Save",
      defaultText: "the edit's own rank, which is exact",
      help: "rank of the LoRA",
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
      placeholder: "DIR|FILE",
      group: "Save",
      help:
        "write the whole model with all edits and LoRAs merged into its weights: a folder in diffusers' layout, or one " +
        ".safetensors file as A1111 and ComfyUI load it",
      access: { kind: "write", purpose: "save the model" },
    },
    saveDtype: {
      kind: "text",
      choices: ["f32", "f16"],
      defaultText: "that of the model's files",
      group: "Save",
      help: "dtype of the model's weights (--save-model)",
    },
    ...samplingFlags,
  },
  examples: [
    {
      line:
        'edit -m models/pocket --source "A car" --destination "A red car" -p "a car" -p "a car on the beach" -p "a cat" --cfg-scale 5',
      says: "red cars, and a cat that stays black",
    },
    {
      line:
        'edit -m models/pocket --source "A rose" --destination "A blue rose" --preserve "a tulip" --report -p "a tulip" --save-edit rose.safetensors',
      says: "preserve tulips, predict what changes, and save the edit",
    },
    {
      line:
        'edit -m models/pocket --method nullspace --source "a rose" --destination "a tulip" --preserve "a cat" --preserve "a car" --report',
      says: "erase roses along directions that cats and cars do not use",
    },
    {
      line: "edit -m models/pocket --edit rose.safetensors --export-lora rose-lora.safetensors --save-model edited",
      says: "export a saved edit as a LoRA, and merge it into the model",
    },
    {
      line: "edit -m models/pocket --lora style.safetensors:0.8 --save-model styled.safetensors",
      says: "merge a LoRA into the model",
    },
  ],
  async run(values, { given }) {
    const { source, destination } = values;
    const method = methodOfFlags(values);
    const fromFile = values.pairs === undefined
      ? []
      : parseEditPairs(await readTextOf(values.pairs, "--pairs"), values.pairs, {
        emptyDestinations: pairsLast(values),
      });
    const pairs = [...pairsOfFlags(source, destination), ...fromFile];
    if (pairs.length === 0) checkSavedAlone(values, given);
    checkDependentFlags(values, given);
    const preserve = [
      ...values.preserve,
      ...(values.preserveFile === undefined ? [] : await promptLines(values.preserveFile, "--preserve-file")),
    ];
    if (values.method === "nullspace" && preserve.length === 0) {
      throw new ArgumentError(
        "Cannot edit in a null space without prompts to preserve: give --preserve or --preserve-file, or use --method uce",
        { argument: "--preserve" },
      );
    }
    const prompts = await promptsOf(values);
    if (prompts.length > 0) {
      requireAccess(values.output, { kind: "write", purpose: "write the pictures" });
      await checkPictures([values.output], values);
    }
    parseEdits(values.edit);
    checkSampler(values);
    await checkNewFile(values.saveEdit, "--save-edit", values);
    await checkNewFile(values.exportLora, "--export-lora", values);
    if (values.saveEdit !== undefined) checkTensorsName(values.saveEdit);
    if (values.exportLora !== undefined) checkAdapterName(values.exportLora);
    await checkDistinct({
      "--output": prompts.length > 0 ? values.output : undefined,
      "--save-edit": values.saveEdit,
      "--export-lora": values.exportLora,
      "--save-model": values.saveModel,
    });
    const savesFile = values.saveModel !== undefined && isSafetensors(values.saveModel);
    if (values.saveModel !== undefined && !savesFile) checkFolderName(values.saveModel);
    await (savesFile ? checkNewFile : checkNewFolder)(values.saveModel, "--save-model", values);
    const candidates = values.candidates === undefined ? [] : await promptLines(values.candidates, "--candidates");
    const start = performance.now();
    using owned = new DisposableStack();
    const pipe = owned.use(await openPipeline(values));
    applySampling(pipe, values);
    const models = Object.values(pipe.components).filter((part) => part instanceof Model);
    if (values.saveModel !== undefined) await refuseOwnSource(models, values.saveModel);
    for (const path of [values.saveEdit, values.exportLora]) {
      if (path !== undefined) await refuseSourceFile(models, path);
    }
    let solved: ModelEdit | undefined;
    if (pairs.length > 0) {
      await pushEdits(pipe, values, owned);
      solved = owned.use(
        await ModelEdit.solve(pairs, {
          ...method,
          preserve,
          withToK: !values.valuesOnly,
          withPooled: values.withPooled,
          layers: values.layers.length > 0 ? values.layers : undefined,
          signal: interruptSignal(),
        }, pipe),
      );
    }
    const subject = solved ? solvedSubject(solved, pairs, pipe) : await savedSubject(pipe, values, owned);
    say(subject.line);
    const predictions = solved && values.report
      ? await solved.predictLeakage([...new Set([...prompts, ...candidates])])
      : [];
    if (solved && values.report) {
      say(reportText(solved));
      if (predictions.length > 0) say(predictionsText(predictions));
      const affected = candidates.length > 0 ? await suggestPreserve(solved, candidates) : [];
      const advised = affected.filter(({ warning }) => warning).map(({ prompt }) => prompt);
      if (advised.length > 0) {
        say(`To preserve them: ${advised.map((prompt) => `--preserve ${JSON.stringify(prompt)}`).join(" ")}`);
      }
    }
    // before the drawing, so that an error there does not lose the edit
    if (solved && values.saveEdit !== undefined) {
      await solved.save(values.saveEdit);
      keep(values.saveEdit);
      say(values.saveEdit);
    }
    const lora = values.exportLora === undefined ? undefined : await subject.exportLora(values.exportLora, {
      rank: values.rank,
      format: values.loraFormat as "kohya" | "diffusers",
      dtype: values.loraDtype as "f32" | "f16",
    });
    if (lora) {
      keep(values.exportLora!);
      say(
        `${lora.path}: rank ${lora.rank}, ${countText(lora.matrices, "matrix", "matrices")}, ` +
          `truncation error ${lora.truncationError.toExponential(1)}, rounding error ${
            lora.roundingError.toExponential(1)
          }`,
      );
    }
    let sheet: string | undefined;
    if (prompts.length > 0) {
      sheet = await writeBeforeAfterSheet(pipe, values.output, {
        prompts: prompts.map((prompt) => ({ prompt })),
        title: subject.title,
        values,
        signal: interruptSignal(),
        edit: () => {
          subject.push();
          return Promise.resolve(solved ? subject.line : "");
        },
      });
      say(sheet);
    } else subject.push();
    if (values.saveModel !== undefined) {
      const how = { mergeLoras: true, dtype: values.saveDtype as "f32" | "f16" | undefined };
      if (savesFile) await pipe.saveSingleFile(values.saveModel, how);
      else await pipe.savePretrained(values.saveModel, { ...how, overwrite: values.overwrite });
      keep(values.saveModel);
      say(values.saveModel);
    }
    const { saveEdit, exportLora, saveModel } = values;
    if ([saveEdit, exportLora, saveModel, sheet].every((kept) => kept === undefined) && !values.report) {
      say(
        `Nothing is drawn or saved: add -p, ${solved ? "--report, --save-edit, " : ""}--export-lora or --save-model`,
      );
    }
    pipe.edits.clear();
    sayJson({
      ...subject.json,
      predictions,
      sheet: sheet === undefined ? undefined : { path: sheet, seed: values.seed, prompts },
      savedEdit: values.saveEdit,
      lora,
      savedModel: values.saveModel,
      device: pipe.gpu.info.name,
      timings: { solveMs: solved?.report.ms, totalMs: performance.now() - start },
    });
  },
});
