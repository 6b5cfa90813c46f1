/**
 * Recognizes the text encoder that an edit was solved with, by the embedding of a fixed text.
 *
 * @module
 */

import { advise } from "../advice.ts";
import { EditError } from "../errors.ts";
import type { EditableModel } from "./editable_model.ts";

/** The embedding of this text identifies the text encoder. */
export const probeText = "a photo of a red rose beside the sea";

/** The embedding of the end token of {@linkcode probeText}. */
export function endTokenEmbedding(
  embedding: Float32Array,
  width: number,
  { tokenizer }: Pick<EditableModel, "tokenizer">,
): Float32Array {
  const end = tokenizer.encode(probeText, { truncation: true }).length - 1;
  return embedding.slice(end * width, (end + 1) * width);
}

/**
 * Largest relative difference of the probe embedding within one text encoder. Weights in f16 differ
 * from f32 by about 10⁻³; other encoders differ by about 1.
 */
const probeTolerance = 0.05;

/** The embedding that identifies text encoders, and the width of each one's part of it. */
export interface Probe {
  /** The embedding [width] of the text's end token. */
  readonly embedding: Float32Array;
  /** The width of each text encoder's part of it. */
  readonly encoderWidths: readonly number[];
}

/**
 * Checks that an edit was solved with this model's text encoders. Each one is checked by itself:
 * beside a wide encoder, a narrow one hardly counts.
 *
 * @param saved the probe in the edit's file, whose text encoders have the same widths
 * @param actual the probe of this model
 * @param name the edit's name in messages
 * @throws {EditError} when the embeddings differ
 */
export function checkProbe(saved: Probe, actual: Probe, name: string): void {
  let start = 0;
  for (const [index, width] of actual.encoderWidths.entries()) {
    const own = ({ embedding }: Probe) => embedding.subarray(start, start + width);
    const which = actual.encoderWidths.length === 1 ? "" : index === 0 ? "first " : "second ";
    checkEncoder(own(saved), own(actual), { name, which });
    start += width;
  }
}

function checkEncoder(
  saved: Float32Array,
  actual: Float32Array,
  { name, which }: { name: string; which: string },
): void {
  let difference = 0, norm = 0;
  for (let i = 0; i < actual.length; i++) {
    difference += (actual[i] - saved[i]) ** 2;
    norm += saved[i] ** 2;
  }
  const distance = Math.sqrt(difference / (norm || 1));
  if (distance <= probeTolerance) return;
  throw new EditError(
    `Cannot use the edit ${name} on this model: it was solved for another ${which}text encoder. The embedding of a probe text differs by ${
      (100 * distance).toFixed(0)
    } % (at most ${100 * probeTolerance} % is allowed). ${advise("useEditAnyway")}`,
  );
}
