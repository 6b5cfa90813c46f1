/** Which edits act on which rows of a call's embeddings. */

import { EditError } from "../errors.ts";
import type { RowEdits } from "./edit_snapshot.ts";
import type { StackableEdit } from "./edit_stack.ts";

/** Choice of edits for the prompts of a call. */
export interface EditChoice<Edit> {
  /**
   * The edits that act on each prompt, of those on the stack: one list for each prompt, or one for
   * each picture where `numImagesPerPrompt` is above 1. Default: all that are enabled.
   */
  readonly editsPerPrompt?: readonly (readonly Edit[])[];
  /**
   * The edits that act on each negative prompt, counted as `editsPerPrompt`. Default: those of its
   * prompt. Without guidance (`guidanceScale` up to 1) there are no negative prompts to edit.
   */
  readonly editsPerNegativePrompt?: readonly (readonly Edit[])[];
  /**
   * Whether edits act on negative prompts, the empty one included, as they do where an edit is part
   * of the weights. `false` leaves them unedited. Default: true.
   */
  readonly editNegativePrompt?: boolean;
}

/** The numbers of a call. */
export interface RowCounts {
  readonly prompts: number;
  readonly numImagesPerPrompt: number;
  readonly guided: boolean;
}

/**
 * The edits of each row: under guidance the rows of the negative prompts stand before those of the
 * prompts.
 *
 * @throws {EditError} when the lists are neither one for each prompt nor one for each picture, or
 *   when lists for negative prompts come with `editNegativePrompt: false`
 */
export function editsPerRow<Edit extends StackableEdit>(
  { editsPerPrompt, editsPerNegativePrompt, editNegativePrompt = true }: EditChoice<Edit>,
  counts: RowCounts,
): RowEdits<Edit>[] {
  if (editsPerNegativePrompt && !editNegativePrompt) {
    throw new EditError("Cannot edit by editsPerNegativePrompt with editNegativePrompt: false: give one of them");
  }
  const prompts = editsPerPrompt && perPicture("editsPerPrompt", editsPerPrompt, counts);
  const negatives = editsPerNegativePrompt && perPicture("editsPerNegativePrompt", editsPerNegativePrompt, counts);
  const pictures = counts.prompts * counts.numImagesPerPrompt;
  const positive: readonly RowEdits<Edit>[] = prompts ?? Array(pictures).fill("all");
  if (!counts.guided) return [...positive];
  const negative = negatives ?? (editNegativePrompt ? positive : Array<RowEdits<Edit>>(pictures).fill([]));
  return [...negative, ...positive];
}

function perPicture<Edit>(
  option: string,
  lists: readonly (readonly Edit[])[],
  { prompts, numImagesPerPrompt }: RowCounts,
): readonly (readonly Edit[])[] {
  const pictures = prompts * numImagesPerPrompt;
  if (lists.length === pictures) return lists;
  if (lists.length === prompts) return lists.flatMap((edits) => Array<readonly Edit[]>(numImagesPerPrompt).fill(edits));
  throw new EditError(
    `Cannot edit by the ${lists.length} lists of ${option}: there must be one list of edits for each prompt, ${prompts}` +
      (pictures === prompts ? "" : `, or one for each picture, ${pictures}`),
  );
}
