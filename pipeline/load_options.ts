/** Kinds of the options that the loaders of pipelines share. */

import type { Gpu } from "../engine/gpu.ts";
import { kind, kinds, listOf, oneOf, type OptionTable } from "./options.ts";

/** Defaults of editing pipelines, which their loaders take among their own options. */
export interface EditingOptions {
  readonly withToK?: boolean;
  readonly withAugs?: readonly string[];
  readonly requiresSafetyChecker?: boolean;
}

/** Kinds of {@linkcode EditingOptions}. */
export const editingOptionsTable: OptionTable<EditingOptions> = {
  withToK: kinds.flag,
  withAugs: listOf(kinds.text, "strings"),
  requiresSafetyChecker: kinds.flag,
};

/** Kinds of the options of both loaders. */
export const loadingTable = {
  gpu: kind(
    "a Gpu, as Gpu.request() gives one",
    (value) => kinds.object.accepts((value as Partial<Gpu> | null)?.context),
  ),
  onProgress: kinds.callback,
  signal: kinds.signal,
  activations: oneOf("f32", "f16"),
  arithmetic: oneOf("f32", "f16"),
  cacheDir: kinds.text,
  endpoint: kinds.text,
  localFilesOnly: kinds.flag,
} as const;
