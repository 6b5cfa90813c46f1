/** What the UNet of SDXL is conditioned on besides the states of the prompt. */

import { countText } from "../../engine/inspect.ts";
import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { sinusoids } from "../../kernels/shape/sinusoids.ts";
import type { UNet2DConditionConfig } from "../checkpoint/diffusers/config/unet.ts";
import { OptionError } from "../errors.ts";
import { type TimestepEmbedding, timestepFrequencies } from "../layers/timestep.ts";

/** Added conditions of SDXL (diffusers' `added_cond_kwargs`), one row for each latent. */
export interface AddedConditions {
  /** The pooled, projected embeddings of the prompts, [B, projection]. */
  readonly textEmbeds: Tensor;
  /**
   * Sizes in pixels, [B, 6]: original height and width, top and left of the crop, target height and
   * width. A tensor, or rows of numbers.
   */
  readonly timeIds: Tensor | readonly (readonly number[])[];
}

/**
 * Embeds added conditions (diffusers' `text_time`): the pooled prompt and the sinusoids of the
 * sizes, side by side, through `add_embedding`.
 *
 * @param batch number of latents
 * @returns [B, 4 C], to be added to the time embedding; `undefined` for a UNet without
 * @throws {OptionError} if conditions are missing, or the model takes none
 * @throws {ShapeError} if they do not have the model's width, or not one row for each latent
 */
export function addedEmbedding(
  { gpu, config }: { gpu: Gpu; config: UNet2DConditionConfig },
  layer: TimestepEmbedding | undefined,
  added: AddedConditions | undefined,
  batch: number,
): Tensor | undefined {
  const { textTime, flipSinToCos, freqShift } = config;
  if (textTime === null || layer === undefined) {
    if (added === undefined) return undefined;
    throw new OptionError("Cannot use addedCondKwargs as this UNet takes none: they are for SDXL's UNets", {
      option: "addedCondKwargs",
      value: added,
    });
  }
  if (added === undefined) {
    throw new OptionError(
      "Cannot run this UNet without addedCondKwargs as it is one of SDXL: give { textEmbeds, timeIds }",
      { option: "addedCondKwargs", value: added },
    );
  }
  const { textEmbeds, timeIds } = added;
  return gpu.scope(() => {
    const ids = timeIds instanceof Tensor ? timeIds : fromRows(gpu, timeIds);
    const [rows, width] = textEmbeds.dims(2), [idRows, count] = ids.dims(2);
    if (rows !== batch || idRows !== batch || width + count * textTime.timeEmbedDim !== textTime.inputDim) {
      throw new ShapeError(
        `Cannot add the conditions textEmbeds [${rows}, ${width}] and timeIds [${idRows}, ${count}] to ${batch} ` +
          `prompts: each needs ${
            countText(batch, "row")
          }, and the width of textEmbeds plus ${textTime.timeEmbedDim} for each of ` +
          `the timeIds must be ${textTime.inputDim}`,
        [textEmbeds.shape, ids.shape],
      );
    }
    const frequencies = timestepFrequencies({ channels: textTime.timeEmbedDim, flipSinToCos, freqShift });
    const sizes = sinusoids(ids, Tensor.from(gpu, frequencies, [frequencies.length]), { cosinesFirst: flipSinToCos });
    return layer.forward(concat([textEmbeds, sizes.reshape([batch, count * textTime.timeEmbedDim])], 1)); // [B, 4 C]
  });
}

function fromRows(gpu: Gpu, rows: readonly (readonly number[])[]): Tensor {
  const count = rows[0]?.length ?? 0;
  if (rows.some((row) => row.length !== count)) {
    throw new ShapeError("Cannot use timeIds whose rows differ in length: give each latent as many", [
      rows.map(({ length }) => length),
    ]);
  }
  return Tensor.from(gpu, Float32Array.from(rows.flat()), [rows.length, count]);
}
