/**
 * Flags shared by the evaluation commands.
 *
 * @module
 */
import { type CaseLimits, type EditCase, limitCases, parseEditCases } from "../pipeline/evaluation/edit_cases.ts";
import { DataError } from "../pipeline/errors.ts";
import type { Flags } from "./flag_types.ts";
import { embeddedFolder, embeddedModel } from "./embedded_model.ts";
import { modelFlags } from "./flags.ts";
import { overwriteFlag, readTextOf } from "./files.ts";
import { jsonFlag } from "./json_file.ts";

/** Folder of the embedded model. */
export const pocket: string = embeddedFolder;

/** Flags of `bluerose evaluate edits` and `bluerose evaluate leakage`. */
export const evaluationFlags = {
  ...modelFlags,
  model: {
    kind: "text",
    alias: "m",
    placeholder: "DIR",
    default: embeddedModel,
    mayRead: true,
    group: "Model",
    help: "folder of a model in diffusers' layout",
  },
  seeds: { kind: "whole", default: 1, min: 1, group: "Drawing", help: "pictures of each prompt" },
  seed: {
    kind: "seed",
    default: 500n,
    group: "Drawing",
    help: "seed of a prompt's first picture, 0 to 2^64 - 1; -1 draws one",
  },
  steps: { kind: "whole", default: 10, min: 1, group: "Drawing", help: "denoising steps" },
  cfgScale: {
    kind: "number",
    default: 5,
    min: 0,
    group: "Drawing",
    help: "classifier-free guidance scale; 1 or less disables it",
  },
  batchSize: { kind: "whole", default: 16, min: 1, group: "Drawing", help: "pictures per batch" },
  overwrite: overwriteFlag,
  json: jsonFlag,
} as const satisfies Flags;

/**
 * The edits of --cases, as far as they are used.
 *
 * @throws {DataError} for a file of something else, or without edits
 */
export async function casesOf(path: string, limits: CaseLimits): Promise<EditCase[]> {
  const cases = limitCases(parseEditCases(await readTextOf(path, "--cases"), path), limits);
  if (cases.length > 0) return cases;
  throw new DataError(`Cannot use ${path} as cases: it has no edits`, { source: path });
}
