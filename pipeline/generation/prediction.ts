/** The UNet's prediction under guidance, captured to run at each step. */

import type { Program } from "../../engine/record/program.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { guide } from "../../kernels/shape/guide.ts";
import { rescaleGuided } from "../../kernels/shape/rescale_guided.ts";
import { slice } from "../../kernels/shape/slice.ts";
import type { LoopOptions } from "./denoising_options.ts";

/**
 * Temporaries of a prediction that are kept between calls, at most: those of 512 × 512 pictures fit
 * several times. They stay allocated while pictures are decoded, so that larger ones are freed.
 */
export const mostKeptBytes = 512 * 1024 ** 2;

/** The UNet and guidance, captured on inputs of their own. */
export class Prediction implements Disposable {
  readonly sample: Tensor; // [B, latent channels, h, w]
  readonly time: Tensor; // [1 or rows of the context, columns]
  readonly program: Program<Tensor>;
  readonly #owned: DisposableStack;

  constructor(shape: readonly number[], timeShape: readonly number[], options: LoopOptions) {
    const { gpu } = options.unet;
    using owned = new DisposableStack();
    this.sample = owned.use(Tensor.empty(gpu, shape).keep());
    this.time = owned.use(Tensor.empty(gpu, timeShape).keep());
    this.program = owned.use(gpu.capture(() => predictNoise(this, options)));
    this.#owned = owned.move();
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

/**
 * Runs the UNet. Applies classifier-free guidance when the context holds negative prompts, which
 * then run in the same batch.
 */
function predictNoise(
  { sample, time }: { sample: Tensor; time: Tensor },
  { unet, context, guidanceScale, guidanceRescale }: LoopOptions,
): Tensor {
  if (context.batch === sample.shape[0]) return unet.forward(sample, time, context);
  const predictions = unet.forward(concat([sample, sample], 0), time, context);
  const guided = guide(predictions, guidanceScale);
  if (guidanceRescale <= 0) return guided;
  const [images] = sample.shape;
  return rescaleGuided(guided, slice(predictions, 0, images, 2 * images), guidanceRescale);
}
