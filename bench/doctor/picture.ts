import type { Gpu } from "../../engine/gpu.ts";
import { DeviceLostError } from "../../engine/errors.ts";
import { decodePicture, picturesFromFloats } from "../../pipeline/image/picture.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";

/** How a picture of the embedded model differs from the reference's. */
export interface PictureResult {
  readonly prompt: string;
  /** Time to load the model, compile its kernels and draw. */
  readonly ms: number;
  /** Root mean square of the differences, in levels of 256. */
  readonly difference?: number;
  /** The largest difference, in levels of 256. */
  readonly largest?: number;
  /** What is wrong; absent where nothing is. */
  readonly failure?: string;
}

/** As tests/reference/doctor.py draws it. */
const drawn = { prompt: "a field of roses", seed: 1, numInferenceSteps: 8, guidanceScale: 5 } as const;

/**
 * The largest root mean square of the differences, in levels of 256. The goldens of this model
 * agree to a relative 5·10⁻⁴, about 0.07 levels; rounding to whole levels then moves one value in
 * ten by one, which is 0.3.
 */
const tolerance = 0.5;

/**
 * Draws a picture with the model in a folder and compares it with `rose.png`, which diffusers drew
 * with the same model on a CPU.
 *
 * @throws {DeviceLostError} when the device is lost
 */
export async function checkPicture(gpu: Gpu, model: string): Promise<PictureResult> {
  const { prompt, seed, ...settings } = drawn;
  const started = performance.now();
  const finish = (result: Omit<PictureResult, "prompt" | "ms">) => ({
    prompt,
    ms: performance.now() - started,
    ...result,
  });
  try {
    const golden = await decodePicture(await Deno.readFile(new URL("./rose.png", import.meta.url)));
    using pipe = await StableDiffusionPipeline.fromPretrained(model, { gpu });
    const { images } = await pipe.generate(prompt, {
      ...settings,
      generator: new TorchGenerator(seed),
      outputType: "array",
    });
    const [picture] = picturesFromFloats(images, golden);
    let squares = 0, largest = 0;
    for (let i = 0; i < golden.data.length; i++) {
      const apart = Math.abs(picture.data[i] - golden.data[i]);
      squares += apart * apart;
      largest = Math.max(largest, apart);
    }
    const difference = Math.sqrt(squares / golden.data.length);
    if (difference <= tolerance) return finish({ difference, largest });
    const failure = `differs from the reference's by ${difference.toFixed(1)} of 256 levels (root mean square), ` +
      `where rounding explains ${tolerance}`;
    return finish({ difference, largest, failure });
  } catch (error) {
    if (error instanceof DeviceLostError) throw error;
    return finish({ failure: error instanceof Error ? error.message : `${error}` });
  }
}
