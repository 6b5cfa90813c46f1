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

/**
 * Pushes the edits of `--edit` onto the pipeline's stack, in their order. The caller disposes of
 * them.
 */
export async function pushEdits(
  pipe: EditingPipeline,
  { edit: texts, anyModel }: { readonly edit: readonly string[]; readonly anyModel: boolean },
): Promise<ModelEdit[]> {
  const edits: ModelEdit[] = [];
  for (const { path, weight } of parseEdits(texts)) {
    const edit = await ModelEdit.load(path, pipe, { anyModel });
    pipe.edits.push(edit, { strength: weight });
    edits.push(edit);
  }
  return edits;
}

/** The files of `--edit`, checked before a model is loaded. */
export function parseEdits(texts: readonly string[]): { path: string; weight: number }[] {
  return texts.map((text) => parseWeightedFile(text, "--edit", "FILE[:STRENGTH]"));
}
