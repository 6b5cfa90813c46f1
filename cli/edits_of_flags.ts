import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import type { Flags } from "./flag_types.ts";
import { parseWeightedFile } from "./weighted_file.ts";

/** The flag for saved edits. */
export const editFlag = {
  kind: "texts",
  placeholder: "FILE[:STRENGTH]",
  group: "Edit",
  mayRead: true,
  help: "saved edit to apply (bluerose edit --save-edit writes it), with an optional strength: rose.safetensors:0.5",
} as const satisfies Flags[string];

/** The flag for edits of other text encoders. */
export const anyModelFlag = {
  kind: "switch",
  group: "Edit",
  help: "apply edits that were solved for another text encoder, too",
} as const satisfies Flags[string];

type EditValues = { readonly edit: readonly string[]; readonly anyModel: boolean };

/** A saved edit that is loaded. */
interface LoadedEdit {
  readonly path: string;
  readonly edit: ModelEdit;
  readonly strength: number;
}

/** Loads the edits of `--edit`, in their order. They belong to `owned`. */
export async function loadEdits(
  pipe: EditingPipeline,
  { edit: texts, anyModel }: EditValues,
  owned: DisposableStack,
): Promise<LoadedEdit[]> {
  const edits: LoadedEdit[] = [];
  for (const { path, weight } of parseEdits(texts)) {
    edits.push({ path, edit: owned.use(await ModelEdit.load(path, pipe, { anyModel })), strength: weight });
  }
  return edits;
}

/** Pushes the edits of `--edit` onto the pipeline's stack. They belong to `owned`. */
export async function pushEdits(pipe: EditingPipeline, values: EditValues, owned: DisposableStack): Promise<void> {
  for (const { edit, strength } of await loadEdits(pipe, values, owned)) pipe.edits.push(edit, { strength });
}

/** The files of `--edit`, checked before a model is loaded. */
export function parseEdits(texts: readonly string[]): { path: string; weight: number }[] {
  return texts.map((text) => parseWeightedFile(text, "--edit", "FILE[:STRENGTH]"));
}
