/**
 * Which flags of `bluerose bench` fit together, and whether what they name can be used: all of it
 * is known before anything is measured.
 *
 * @module
 */
import type { BenchPart } from "../bench/options.ts";
import { isHubId } from "../pipeline/checkpoint/hub/hub.ts";
import { infoAt, textAt } from "../pipeline/output/paths.ts";
import { ArgumentError } from "./argument_error.ts";
import { embeddedModel, resolveModel } from "./embedded_model.ts";
import { InputError, reasonOf } from "./files.ts";
import { kebab } from "./flag_types.ts";
import { isAddress } from "./model_hash.ts";

/** Flags that any other may stand beside: they say what is printed. */
const quietFlags = ["quiet", "help"];

/** Flags that may stand beside --from; the others say what to measure. */
const withFrom = ["from", "compare", "gpuModel", "json", "html", "overwrite", ...quietFlags];

/** Flags that may stand beside --tune; the others concern other measurements. */
const withTune = ["tune", "checkpoint", "quick", "subgroupMatrices", "arithmetic", ...quietFlags];

/** The parts to which a flag applies, one of which must be measured. */
const partsOfFlag: Readonly<Record<string, readonly BenchPart[]>> = {
  filter: ["kernels"],
  model: ["stages"],
  steps: ["stages"],
  peers: ["kernels", "edit", "full-size"],
  python: ["kernels", "edit", "full-size"],
  checkpoint: ["full-size"],
  shapes: ["full-size"],
  pixels: ["full-size"],
};

/** @throws {ArgumentError} where a flag stands beside one that ignores it: --from, --tune */
export function checkModes(given: ReadonlySet<string>): void {
  const refuseOthers = (mode: string, allowed: readonly string[], why: string) => {
    const other = given.has(mode) ? [...given].find((name) => !allowed.includes(name)) : undefined;
    if (other === undefined) return;
    const argument = `--${kebab(other)}`;
    throw new ArgumentError(`Cannot use ${argument} with --${mode}: ${why}`, { argument });
  };
  refuseOthers(
    "from",
    withFrom,
    "nothing is measured, so only --compare, --gpu-model, --json, --html, --overwrite and --quiet fit",
  );
  if (given.has("shapes") && given.has("checkpoint")) {
    throw new ArgumentError(
      "Cannot use --shapes with --checkpoint: the model has shapes of its own, so omit one",
      { argument: "--shapes" },
    );
  }
  refuseOthers(
    "tune",
    withTune,
    "the result is the tuning file, so only --checkpoint, --quick, --arithmetic, --subgroup-matrices and --quiet fit",
  );
}

/** @throws {ArgumentError} where a flag applies to parts that are not measured */
export function checkParts(given: ReadonlySet<string>, parts: ReadonlySet<BenchPart>): void {
  for (const name of given) {
    if (!Object.hasOwn(partsOfFlag, name)) continue;
    const own = partsOfFlag[name], argument = `--${kebab(name)}`;
    if (own.some((part) => parts.has(part))) continue;
    throw new ArgumentError(
      `Cannot use ${argument} with --only ${[...parts].join(", ")}: it applies to ${own.join(", ")}, so omit it or ` +
        `add --only ${own[0]}`,
      { argument },
    );
  }
}

/** What flags name, as {@linkcode checkInputs} reads it. */
export interface BenchInputs {
  readonly model: string;
  readonly checkpoint?: string;
  /** The interpreter, where a part uses one. */
  readonly python?: string;
}

/** @throws {InputError} where a model that is to be measured, or the Python, is not there */
export async function checkInputs(
  { model, checkpoint, python }: BenchInputs,
  parts: ReadonlySet<BenchPart>,
): Promise<void> {
  if (parts.has("stages") && model !== embeddedModel && !isAddress(model)) {
    const path = await resolveModel(model);
    if (!isHubId(model) && (path === "" || await infoAt(path) === undefined)) {
      throw new InputError(`Cannot read --model ${JSON.stringify(model)} as there is no such file or folder`, { path });
    }
  }
  if (parts.has("full-size") && checkpoint !== undefined) {
    if (await textAt(`${checkpoint}/model_index.json`) === undefined) {
      throw new InputError(
        `Cannot read --checkpoint ${
          JSON.stringify(checkpoint)
        } as it must be a model's folder in diffusers' layout: it ` +
          "holds no model_index.json",
        { path: checkpoint },
      );
    }
  }
  if (python !== undefined && ["kernels", "edit", "full-size"].some((part) => parts.has(part as BenchPart))) {
    await checkPython(python);
  }
}

async function checkPython(python: string): Promise<void> {
  const refuse = (why: string, cause?: unknown): never => {
    throw new InputError(`Cannot run --python ${JSON.stringify(python)} as ${why}: name a Python interpreter`, {
      path: python,
      cause,
    });
  };
  try {
    const { code } = await new Deno.Command(python, { args: ["-c", ""], stdin: "null" }).output();
    if (code !== 0) refuse(`it ended with code ${code} when asked to do nothing`);
  } catch (error) {
    if (error instanceof InputError || error instanceof Deno.errors.NotCapable) throw error;
    refuse(reasonOf(error), error);
  }
}
