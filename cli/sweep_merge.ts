import { countText } from "../engine/inspect.ts";
import { parsePlan, parseResults } from "../pipeline/evaluation/sweep/files.ts";
import { mergeResults } from "../pipeline/evaluation/sweep/merge.ts";
import type { SweepResult } from "../pipeline/evaluation/sweep/plan.ts";
import { SweepError } from "../pipeline/evaluation/sweep/sweep_error.ts";
import { sweepReport } from "../pipeline/evaluation/sweep/report/report.ts";
import { bestLines, summaryCsv, summaryTable } from "../pipeline/evaluation/sweep/tables.ts";
import { decodePicture, encodePicture } from "../pipeline/image/picture.ts";
import { infoAt } from "../pipeline/output/paths.ts";
import { writeText } from "../pipeline/output/file.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { bytesOf, checkDistinct, checkNewFile, InputError, overwriteFlag } from "./files.ts";
import { checkJsonFile, giveJson, jsonFlag } from "./json_file.ts";
import { keep } from "./kept.ts";
import { say } from "./printer.ts";

/** `bluerose sweep merge`: the paper's three measures, from the results of all shards. */
export const command: Command = defineCommand({
  name: "sweep merge",
  summary: "print efficacy, generality and specificity of each setting, from the results of all shards",
  usage: "PLAN RESULTS.jsonl… [flags]",
  details:
    "As the paper defines them: efficacy, the share of the source prompt's pictures that CLIP finds closer to the destination than to the source; " +
    "generality, the same for related prompts; specificity, the share of unrelated prompts' pictures that stay closer to their own prompt. " +
    "In brackets: Wilson's 95 % interval, which takes pictures as independent. Harmonic mean: of the three. " +
    "CLIP score: mean of 100 cos of each picture with the prompt that it should show.",
  positionals: {
    placeholder: "PLAN RESULTS…",
    min: 2,
    max: Infinity,
    access: { kind: "read", purpose: "read the plan and the results" },
  },
  flags: {
    partial: {
      kind: "switch",
      help:
        "summarize what there is: some pictures may be missing or be there twice (the first counts), and results of " +
        "other plans are left out",
    },
    overwrite: overwriteFlag,
    csv: {
      kind: "text",
      placeholder: "FILE",
      group: "Output",
      help: "write a table of all settings and edits (.csv)",
      access: { kind: "write", purpose: "write the table" },
    },
    html: {
      kind: "text",
      placeholder: "FILE",
      group: "Output",
      help: "write a report with tables, curves and pictures (.html): one file, without requests",
      access: { kind: "write", purpose: "write the report" },
    },
    pictures: {
      kind: "text",
      placeholder: "DIR",
      group: "Output",
      help: "folder of the pictures that sweep run kept, for the report",
      access: { kind: "read", purpose: "read the pictures" },
    },
    json: { ...jsonFlag, help: `${jsonFlag.help}; as --json=FILE, or after the results` },
  },
  examples: [
    { line: "sweep merge plan.json part*.jsonl", says: "all shards" },
    {
      line: "sweep merge plan.json part*.jsonl --html report.html --pictures pictures",
      says: "a report with pictures",
    },
  ],
  async run({ partial, json, csv, html, pictures, overwrite }, { positionals: [planPath, ...paths] }) {
    await checkJsonFile(json, { overwrite });
    await checkNewFile(csv, "--csv", { overwrite });
    await checkNewFile(html, "--html", { overwrite });
    await checkDistinct({ "--json": json, "--csv": csv, "--html": html });
    if (pictures !== undefined) await checkPictures(pictures, html);
    const { plan, fingerprint } = await parsePlan(await bytesOf(planPath, "PLAN"), planPath);
    const results: SweepResult[] = [];
    const remarks: string[] = [];
    for (const path of paths) {
      const bytes = await bytesOf(path, "RESULTS");
      const parsed = parseResults(bytes, { path, plan, fingerprint, skipForeign: partial });
      for (const result of parsed.results) results.push(result);
      if (parsed.completeBytes < bytes.length) remarks.push(`${path} ends within a line, which is left out`);
      if (parsed.foreign > 0) {
        remarks.push(`${path} has ${countText(parsed.foreign, "result")} of other plans, to be left out`);
      }
    }
    const summary = mergeResults(plan, results);
    const { missing, planned, doubled } = summary;
    const refuse = (reason: string, advice: string) =>
      new SweepError(`Cannot merge: ${[reason, ...remarks].join("; ")}. ${advice}`, { path: planPath });
    const missingText = `${missing} of ${countText(planned, "picture")} ${missing === 1 ? "is" : "are"} missing`;
    const doubledText = doubled === 1
      ? "1 result is of a picture that has one already"
      : `${doubled} results are of pictures that have one already`;
    if (results.length === 0 || (missing > 0 && !partial)) {
      throw refuse(
        missingText,
        results.length === 0
          ? "Run a shard first"
          : "Run the remaining shards, or summarize what there is with --partial",
      );
    }
    if (doubled > 0 && !partial) {
      throw refuse(
        doubledText,
        "Name each results file once, or count the first of each picture with --partial",
      );
    }
    if (missing > 0) remarks.unshift(missingText);
    if (doubled > 0) remarks.push(`${doubledText}, and ${doubled === 1 ? "does" : "do"} not count`);
    say(
      [
        `${plan.model}: ${countText(summary.settings[0].edits.length, "edit")}`,
        summaryTable(summary),
        ...bestLines(summary),
        ...remarks,
      ].join("\n"),
    );
    if (csv !== undefined) {
      await writeText(csv, summaryCsv(summary));
      keep(csv);
      say(csv);
    }
    if (html !== undefined) {
      const picture = pictures === undefined ? undefined : (name: string) => dataUrl(`${pictures}/${name}`);
      await writeText(html, await sweepReport(plan, summary, { remarks, picture }));
      keep(html);
      say(html);
    }
    await giveJson(json, { plan: planPath, pins: plan.pins, ...summary });
  },
});

/**
 * @throws {ArgumentError} where nothing shows the pictures
 * @throws {InputError} where the folder is not there
 */
async function checkPictures(folder: string, html: string | undefined): Promise<void> {
  if (html === undefined) {
    throw new ArgumentError("Cannot use --pictures without --html: the report shows them", { argument: "--pictures" });
  }
  if ((await infoAt(folder))?.isDirectory) return;
  throw new InputError(`Cannot read --pictures ${JSON.stringify(folder)} as there is no such folder`, { path: folder });
}

/** PNG files up to this size are embedded as they are. */
const largestPng = 2 ** 16;

/** A picture as a data URL, large ones as JPEG; undefined where there is none. */
async function dataUrl(path: string): Promise<string | undefined> {
  if (await infoAt(path) === undefined) return undefined;
  const bytes = await bytesOf(path, "--pictures");
  if (bytes.length <= largestPng) return `data:image/png;base64,${bytes.toBase64()}`;
  const jpeg = await encodePicture(await decodePicture(bytes), "jpeg");
  return `data:image/jpeg;base64,${jpeg.toBase64()}`;
}
