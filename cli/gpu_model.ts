import { architectures } from "../bench/gpu_model/architecture.ts";
import { caseNames, defaultCases, modelKernels } from "../bench/gpu_model/model.ts";
import { compareModels, modelComparisonText, modelText } from "../bench/gpu_model/record.ts";
import { parseGpuModel } from "../bench/report/gpu_model.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { overwriteFlag, readTextOf } from "./files.ts";
import { checkJsonFile, giveJson, jsonFlag } from "./json_file.ts";
import { patternOf } from "./pattern.ts";
import { note, say } from "./printer.ts";
import { runCommand } from "./run_command.ts";
import { enterUsersFolder } from "./working_folder.ts";

const program = "deno task bench:gpu-model";
const defaultGpus = "navi21,navi31,vega20";

/** `deno task bench:gpu-model`: what kernels compile to on AMD GPUs that are not there. */
export const command: Command = defineCommand({
  name: "gpu-model",
  program,
  summary: "compile the kernels for AMD GPUs that are not there, and model how busy their units are",
  usage: "[CASES] [GPUS] [flags]",
  details: `CASES is a regular expression for names of cases. GPUS are names separated by commas, of ${
    Object.keys(architectures).join(", ")
  }. Default: ${defaultGpus}.\n\nNothing is computed. docs/gpu.md tells what it requires, how it works, and what it does not know.`,
  flags: {
    cases: {
      kind: "text",
      placeholder: "FILE",
      defaultText: "bench/gpu_model/cases.ts",
      help: "module that exports the cases",
      access: { kind: "read", purpose: "load the cases" },
    },
    json: jsonFlag,
    overwrite: overwriteFlag,
    compare: {
      kind: "text",
      placeholder: "FILE",
      help: "compare the modelled times with the JSON of an earlier run",
      access: { kind: "read", purpose: "read the earlier run" },
    },
  },
  positionals: { placeholder: "[CASES] [GPUS]", min: 0, max: 2 },
  async run({ cases, json, compare, overwrite }, { positionals }) {
    const [pattern = "", names = defaultGpus] = positionals;
    const gpus = gpusOf(names);
    const before = compare === undefined ? undefined : parseGpuModel(await readTextOf(compare, "--compare"), compare);
    await checkJsonFile(json, { overwrite });
    if (cases !== undefined) await readTextOf(cases, "--cases");
    const casesUrl = cases === undefined ? defaultCases : new URL(cases, `file://${Deno.cwd()}/`).href;
    patternOf(pattern, await caseNames(casesUrl), { argument: "CASES", what: "cases" });
    const { record, capture } = await modelKernels({ gpus, pattern, casesUrl, note });
    say(record.gpus.map(modelText).join("\n\n"));
    say(`\nWGSL, statistics, NIR and assembly of each kernel: ${capture}`);
    if (before) say(`\n${modelComparisonText(compareModels(before, record), compare!)}`);
    await giveJson(json, record);
  },
});

/** @throws {ArgumentError} for none, and for a GPU that the model does not know */
function gpusOf(text: string): string[] {
  const names = new Set(text.split(/[ ,]+/).filter((name) => name !== ""));
  const unknown = names.size === 0 ? text : [...names].find((name) => !Object.hasOwn(architectures, name));
  if (unknown === undefined) return [...names];
  throw new ArgumentError(
    `Cannot use the GPU ${JSON.stringify(unknown)}: the model knows ${Object.keys(architectures).join(", ")}`,
    { argument: unknown },
  );
}

if (import.meta.main) {
  enterUsersFolder();
  Deno.exit(await runCommand(program, Deno.args, () => ({ command })));
}
