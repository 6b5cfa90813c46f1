import { TorchGenerator } from "../../schedulers/mod.ts";
import { naturalSize } from "../generation/size.ts";
import type { ModelEdit } from "../editing/model_edit.ts";
import { type Picture, picturesFromFloats } from "../image/picture.ts";
import type { StableDiffusionModelEditingPipeline } from "../model_editing.ts";

/** A picture to draw. */
export interface Drawing {
  readonly prompt: string;
  readonly seed: number;
  /** Default: the model as it is. */
  readonly edit?: ModelEdit;
}

/** How pictures are drawn for an evaluation. */
export interface DrawingOptions {
  /** Denoising steps. Default: 20. */
  readonly steps?: number;
  /** Weight of classifier-free guidance. Default: 5. */
  readonly guidance?: number;
  /** Pictures drawn at once, each under its own edit. Default: 16. */
  readonly batchSize?: number;
  readonly signal?: AbortSignal;
  /** Told how many more pictures are done. */
  readonly onDrawn?: (count: number) => void;
}

/**
 * Draws pictures in batches, of which each picture can have another edit. Edits that are on the
 * pipeline's stack already must not be given.
 */
export async function drawPictures(
  pipe: StableDiffusionModelEditingPipeline,
  drawings: readonly Drawing[],
  options: DrawingOptions = {},
): Promise<Picture[]> {
  const { steps = 20, guidance = 5, batchSize = 16, signal, onDrawn } = options;
  const side = naturalSize(pipe);
  const edits = new Set(drawings.flatMap(({ edit }) => edit ?? []));
  const pictures: Picture[] = [];
  try {
    for (const edit of edits) pipe.edits.push(edit);
    for (let first = 0; first < drawings.length; first += batchSize) {
      const batch = drawings.slice(first, first + batchSize);
      const { images } = await pipe.generate(batch.map(({ prompt }) => prompt), {
        editsPerPrompt: batch.map(({ edit }) => edit ? [edit] : []),
        generator: batch.map(({ seed }) => new TorchGenerator(seed)),
        numInferenceSteps: steps,
        guidanceScale: guidance,
        outputType: "array",
        signal,
      });
      pictures.push(...picturesFromFloats(images, { width: side, height: side }));
      onDrawn?.(batch.length);
    }
  } finally {
    const pushed = new Set([...pipe.edits].map(({ edit }) => edit));
    for (const edit of edits) if (pushed.has(edit)) pipe.edits.remove(edit);
  }
  return pictures;
}
