/** Runs the safety checker on generated pictures, as diffusers does. */

import { advise } from "../advice.ts";
import { Tensor } from "../../engine/tensor.ts";
import type { CLIPImageProcessor } from "../image/clip_image_processor.ts";
import { picturesFromFloats } from "../image/picture.ts";
import type { StableDiffusionSafetyChecker } from "../models/safety_checker.ts";
import { warn } from "../safe_text.ts";

/**
 * Checks pictures, replaces flagged ones by black, and warns.
 *
 * @param values [B, H, W, 3] in 0…1; flagged pictures become zeros
 * @returns one verdict per picture
 */
export async function blackenFlagged(
  values: Float32Array,
  size: { width: number; height: number },
  parts: { safetyChecker: StableDiffusionSafetyChecker; featureExtractor: CLIPImageProcessor },
): Promise<boolean[]> {
  const { safetyChecker, featureExtractor } = parts;
  const perPicture = size.height * size.width * 3;
  const seen = featureExtractor.outputSize(size);
  const verdicts: boolean[] = [];
  // One picture at a time, to limit memory.
  for (const picture of picturesFromFloats(values, size)) {
    using pixelValues = Tensor.from(safetyChecker.gpu, featureExtractor.preprocess(picture), [
      1,
      3,
      seen.height,
      seen.width,
    ]);
    verdicts.push(...await safetyChecker.check(pixelValues));
  }
  verdicts.forEach((isFlagged, i) => {
    if (isFlagged) values.fill(0, i * perPicture, (i + 1) * perPicture);
  });
  if (verdicts.includes(true)) {
    warn(
      `The safety checker flagged ${
        verdicts.filter((isFlagged) => isFlagged).length
      } of ${verdicts.length} pictures, ` +
        `which are black now: try another prompt or seed`,
    );
  }
  return verdicts;
}

let warned = false;

/** Warns, once per process, that pictures are not checked although the checkpoint asks for it. */
export function warnOfNoChecker(): void {
  if (warned) return;
  warned = true;
  warn(
    `Pictures are not checked as the pipeline has no safety checker${
      advise("checkerSkipped")
    }: mind the model's license, ` +
      "and do not show unchecked results in services open to the public",
  );
}
