/**
 * Records of bench runs on the command line: read, compared, and given as JSON and as a page.
 *
 * @module
 */
import { compareReports, comparisonText } from "../bench/report/comparison.ts";
import { type ModeledGpus, parseGpuModel } from "../bench/report/gpu_model.ts";
import { benchPage } from "../bench/report/page.ts";
import type { BenchReport } from "../bench/report/report.ts";
import { parseReport } from "../bench/report/schema.ts";
import { timesText } from "../bench/report/text.ts";
import { writeText } from "../pipeline/output/file.ts";
import { ArgumentError } from "./argument_error.ts";
import { checkDistinct, checkNewFile, readTextOf } from "./files.ts";
import { checkJsonFile, giveJson } from "./json_file.ts";
import { keep } from "./kept.ts";
import { say } from "./printer.ts";

/** The flags that concern records. */
export interface RecordFlags {
  readonly from?: string;
  readonly compare?: string;
  readonly json?: string;
  readonly html?: string;
  readonly gpuModel?: string;
  readonly overwrite: boolean;
}

/** Records that are read before anything is measured. */
export interface OpenedRecords {
  /** That of --from. */
  readonly from?: BenchReport;
  /** That of --compare. */
  readonly compared?: { readonly report: BenchReport; readonly name: string };
  /** That of --gpu-model. */
  readonly model?: ModeledGpus;
}

/**
 * Reads the records that flags name, and refuses outputs that cannot be written.
 *
 * @throws {BenchRecordError} where a file is no record
 */
export async function openRecords(values: RecordFlags): Promise<OpenedRecords> {
  const read = async (path: string, flag: string) => parseReport(await readTextOf(path, flag), path);
  const { from, compare, gpuModel, html } = values;
  if (gpuModel !== undefined && html === undefined) {
    throw new ArgumentError("Cannot use --gpu-model without --html: only the page shows the model's table", {
      argument: "--gpu-model",
    });
  }
  const opened = {
    ...(from === undefined ? {} : { from: await read(from, "--from") }),
    ...(compare === undefined ? {} : { compared: { report: await read(compare, "--compare"), name: nameOf(compare) } }),
    ...(gpuModel === undefined ? {} : { model: parseGpuModel(await readTextOf(gpuModel, "--gpu-model"), gpuModel) }),
  };
  await checkJsonFile(values.json, values);
  await checkNewFile(values.html, "--html", values);
  await checkDistinct({ "--json": values.json, "--html": values.html });
  return opened;
}

/** Gives a record in the forms that flags ask for, and compares it. */
export async function giveRecord(
  report: BenchReport,
  values: RecordFlags,
  { compared, model }: OpenedRecords,
): Promise<void> {
  await giveJson(values.json, report);
  if (values.html !== undefined) {
    await writeText(values.html, benchPage(report, { compared, model }));
    keep(values.html);
    say(values.html);
  }
  if (!compared) return;
  const { name, times } = compared.report.device;
  if (name !== report.device.name) say(`\n${values.compare} was measured on another device: ${name}`);
  if (times !== report.device.times) {
    say(`\n${values.compare} was measured by another clock (${timesText(compared.report.device)})`);
  }
  say(`\n${comparisonText(compareReports(compared.report, report), { beforeName: values.compare! })}`);
}

/** The file's name without folders and ending, for headings. */
function nameOf(path: string): string {
  return path.split(/[/\\]/).at(-1)!.replace(/\.json$/i, "");
}
