/**
 * Whether a saved edit fits a model, by its sizes and the names of its layers.
 *
 * @module
 */

import { countText } from "../../engine/inspect.ts";
import { advise } from "../advice.ts";
import { familyOfEncoderWidths } from "../checkpoint/diffusers/published_sizes.ts";
import { EditError } from "../errors.ts";
import { chosenLayers, noPooledEmbedding, type SizedLayer } from "./editable_model.ts";
import { type EditFile, operatorsOfFile, type SavedOperator } from "./edit_file.ts";

/** The sizes of a model that an edit must fit. */
export interface EditableSizes {
  /** Widths of the text encoders whose states stand side by side. */
  readonly encoderWidths: readonly number[];
  /** Width of the pooled embedding; `undefined` for a model that reads none. */
  readonly pooledWidth: number | undefined;
  readonly crossAttentions: readonly SizedLayer[];
}

/** The widths of text encoders for a message, with the family that has them. */
export function widthsText(encoderWidths: readonly number[]): string {
  const text = encoderWidths.join(" + "), family = familyOfEncoderWidths(encoderWidths);
  return family ? `${text} (${family.name})` : text;
}

/**
 * The operators of a saved edit, each with the layers of a model that it edits.
 *
 * @param options.anyModel Accept an edit that was solved with other text encoders, whose widths
 *   have the same sum.
 * @throws {EditError} for text encoders or pooled embeddings of other widths, and for layers that
 *   the model does not have
 */
export function fitEdit(
  file: Omit<EditFile, "report"> & { readonly name: string },
  { encoderWidths, pooledWidth, crossAttentions }: EditableSizes,
  { anyModel = false }: { anyModel?: boolean } = {},
): SavedOperator[] {
  const { name, probe, pooled, recipe } = file;
  const refuse = (why: string) => new EditError(`Cannot use the edit ${name} on this model: ${why}`);
  const [saved, actual] = [probe.encoderWidths, encoderWidths].map(widthsText);
  const width = sumOf(encoderWidths), isOneWidth = sumOf(probe.encoderWidths) === width;
  if (saved !== actual && !(anyModel && isOneWidth)) {
    throw refuse(
      `it was solved for embeddings of width ${saved}, and the model's have width ${actual}. ` +
        (isOneWidth ? advise("useEditAnyway") : "Solve it again for this model"),
    );
  }
  if (pooled && pooledWidth === undefined) throw noPooledEmbedding();
  if (pooled && pooled.width !== pooledWidth) {
    throw refuse(
      `it maps pooled embeddings of width ${pooled.width}, and the model's have width ${pooledWidth}. Solve it again for this model`,
    );
  }
  const layers = chosenLayers({ crossAttentions }, width, recipe.layers ?? undefined).map(({ path }) => path);
  const missing = recipe.layers?.filter((path) => !layers.some((own) => own === path || own.startsWith(`${path}.`)));
  if (missing !== undefined && missing.length > 0) {
    throw refuse(
      `${missing.length} of the ${countText(recipe.layers!.length, "layer")} that it edits ` +
        `${missing.length === 1 ? "is" : "are"} not there: ` +
        missing.slice(0, 3).join(", ") + (missing.length > 3 ? ", …" : ""),
    );
  }
  return operatorsOfFile(file, layers);
}

function sumOf(widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width, 0);
}
