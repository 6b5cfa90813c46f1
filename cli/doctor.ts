import { Budget, defaultBudget } from "../bench/doctor/budget.ts";
import { checks } from "../bench/doctor/checks/checks.ts";
import { diagnose } from "../bench/doctor/doctor.ts";
import { pathVariables, valueWithoutPersonalPaths } from "../bench/doctor/privacy.ts";
import type { DoctorReport } from "../bench/doctor/report.ts";
import { sectionsOf } from "../bench/doctor/text.ts";
import { infoAt } from "../pipeline/output/paths.ts";
import { GpuError } from "../engine/errors.ts";
import { type Command, defineCommand } from "./command.ts";
import { embeddedModel, resolveModel } from "./embedded_model.ts";
import { environmentVariable } from "../pipeline/environment.ts";
import { rememberDevice } from "./failure.ts";
import { twoColumns } from "./help.ts";
import { checkJsonFile, giveJson, jsonFlag } from "./json_file.ts";
import { overwriteFlag } from "./files.ts";
import { say } from "./printer.ts";
import { showProgress } from "./progress.ts";
import { terminalWidth, wrap } from "./terminal.ts";
import { versionLine } from "./version.ts";

/** `bluerose doctor`: tells whether this machine's device computes correctly, and how fast. */
export const command: Command = defineCommand({
  name: "doctor",
  summary: "check that this machine's GPU computes correctly, and how fast",
  usage: "[flags]",
  details:
    "Describes the device and the strategies that will be used on it, and why. Then checks every kernel against its float64 definition at awkward sizes, draws a picture and compares it with the reference's, and measures the device's limits and three kernels' share of them. " +
    "Ends with a verdict and, where something is wrong, with what to do.\n\n" +
    "It stays within --budget: what is important comes first, sizes follow from a first measurement, and what a slow device has no time for is left out and named. Work that has begun cannot be stopped, so a device that needs minutes for one kernel exceeds it.\n\n" +
    "--json gives a bug report all of it; personal paths are replaced. The exit code is 1 when something is wrong.",
  flags: {
    speed: { kind: "switch", default: true, help: "measure speed, too" },
    budget: {
      kind: "number",
      placeholder: "SECONDS",
      default: defaultBudget,
      above: 0,
      help: "time to stay within; a larger one examines more of a slow device",
    },
    json: jsonFlag,
    overwrite: overwriteFlag,
  },
  examples: [
    { line: "doctor", says: "is this device fit for use?" },
    { line: "doctor --json doctor.json", says: "for a bug report" },
  ],
  async run(values) {
    await checkJsonFile(values.json, values);
    const report = await examine(values);
    if (report.device) rememberDevice(report.device.name);
    printReport(report);
    await giveJson(values.json, report);
    if (report.verdict.level !== "faulty") return;
    throw new GpuError(`${report.verdict.text} Problems found: ${report.problems.length}`);
  },
});

async function examine(
  { speed, budget }: { readonly speed: boolean; readonly budget: number },
): Promise<DoctorReport> {
  const folder = await resolveModel(embeddedModel);
  const hasModel = (await infoAt(folder))?.isDirectory ?? false;
  using progress = showProgress("checks", { total: checks.length + 2 });
  let begun = false;
  const report = await diagnose({
    program: versionLine(),
    model: hasModel ? folder : undefined,
    measuresSpeed: speed,
    budget: new Budget(budget),
    onProgress: (next) => {
      progress.advance(begun ? 1 : 0, next);
      begun = true;
    },
  });
  const variables = Object.fromEntries(pathVariables.map((name) => [name, environmentVariable(name)]));
  return valueWithoutPersonalPaths(report, { variables, program: new URL("../", import.meta.url).pathname });
}

function printReport(report: DoctorReport): void {
  const width = terminalWidth();
  for (const { title, rows } of sectionsOf(report)) say(`${title}\n${twoColumns(rows, width)}\n`);
  say(wrap(`Verdict: ${report.verdict.text}`, width).join("\n"));
}
