import { TorchGenerator } from "../../schedulers/mod.ts";
import { naturalSize } from "../generation/size.ts";
import type { ModelEdit } from "../editing/model_edit.ts";
import { type Picture, picturesFromFloats } from "../image/picture.ts";
import type { EditingPipeline } from "../editing_pipeline.ts";
import { checkOptions } from "../options.ts";
import { type DrawingOptions, drawingTable } from "./options.ts";

export type { DrawingOptions };

/** A picture to draw. */
export interface PictureRequest {
  /** The prompt to draw. */
  readonly prompt: string;
  /** Seed of the initial noise. */
  readonly seed: number | bigint;
  /** The edit to apply. Default: none. */
  readonly edit?: ModelEdit;
  /** Several edits instead, in the order in which they were made. */
  readonly edits?: readonly ModelEdit[];
}

/** Pictures per batch where nothing else is asked. */
export const defaultBatchSize = 16;

/**
 * Draws pictures in batches; the pictures of a batch may have different edits. The edits must not
 * be on the pipeline's stack already, which stays as it is.
 *
 * @returns the pictures, in the order of the requests
 * @throws {EditError} when an edit is on the stack already
 * @throws {OptionError} for unknown options and values of the wrong kind
 */
export async function drawPictures(
  pipe: EditingPipeline,
  requests: readonly PictureRequest[],
  options: DrawingOptions = {},
): Promise<Picture[]> {
  checkOptions("draw pictures", options, drawingTable);
  const { steps = 20, guidance = 5, batchSize = defaultBatchSize, signal, onDrawn } = options;
  const side = naturalSize(pipe);
  const pictures: Picture[] = [];
  for (let first = 0; first < requests.length; first += batchSize) {
    const batch = requests.slice(first, first + batchSize);
    const { images } = await withEdits(
      pipe,
      new Set(batch.flatMap(editsOf)),
      () =>
        pipe.generate(batch.map(({ prompt }) => prompt), {
          editsPerPrompt: batch.map(editsOf),
          generator: batch.map(({ seed }) => new TorchGenerator(seed)),
          numInferenceSteps: steps,
          guidanceScale: guidance,
          outputType: "array",
          signal,
        }),
    );
    for (const picture of picturesFromFloats(images, { width: side, height: side })) pictures.push(picture);
    onDrawn?.(batch.length);
  }
  return pictures;
}

function editsOf({ edit, edits }: PictureRequest): readonly ModelEdit[] {
  return edits ?? (edit === undefined ? [] : [edit]);
}

/**
 * Makes a call with edits on the stack. A call takes the edits when it is made, so they are off the
 * stack again before anything waits, and no other call sees them.
 */
function withEdits<T>(
  { edits: stack }: EditingPipeline,
  edits: ReadonlySet<ModelEdit>,
  call: () => Promise<T>,
): Promise<T> {
  const pushed: ModelEdit[] = [];
  try {
    for (const edit of edits) {
      stack.push(edit);
      pushed.push(edit);
    }
    return call();
  } finally {
    for (const edit of pushed) stack.remove(edit);
  }
}

/** The i-th seed from the first on; after 2⁶⁴ − 1 comes 0. */
export function seedFrom(first: number | bigint, i: number): number | bigint {
  return typeof first === "bigint" ? BigInt.asUintN(64, first + BigInt(i)) : first + i;
}
