/**
 * Flags for models of SDXL: the second text encoder, sizes as conditions, and rescaled guidance.
 *
 * @module
 */
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import type { PixelPair, XLSettings } from "../pipeline/generation/xl_options.ts";
import { givenOptions } from "../pipeline/options.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Flags, kebab, type Values } from "./flag_types.ts";

const size = { kind: "pair", separator: "x", placeholder: "WIDTHxHEIGHT", group: "SDXL" } as const;
const corner = { kind: "pair", separator: ",", placeholder: "LEFT,TOP", group: "SDXL" } as const;

/** Flags that only models of SDXL take. */
export const xlFlags = {
  prompt2: {
    kind: "text",
    group: "SDXL",
    defaultText: "the prompt",
    help: "prompt of the second text encoder",
  },
  negativePrompt2: {
    kind: "text",
    group: "SDXL",
    defaultText: "the negative prompt",
    help: "negative prompt of the second text encoder",
  },
  originalSize: {
    ...size,
    defaultText: "the picture's",
    help: "size that the picture is to look as if it had had",
  },
  targetSize: { ...size, defaultText: "the picture's", help: "size that the picture is to look made for" },
  crop: { ...corner, defaultText: "0,0", help: "corner of the crop that the picture is to look like" },
  negativeOriginalSize: {
    ...size,
    defaultText: "--original-size",
    help: "--original-size of the negative prompt, together with --negative-target-size",
  },
  negativeTargetSize: { ...size, defaultText: "--target-size", help: "--target-size of the negative prompt" },
  negativeCrop: { ...corner, defaultText: "0,0", help: "--crop of the negative prompt, if it has sizes of its own" },
  guidanceRescale: {
    kind: "number",
    min: 0,
    max: 1,
    group: "SDXL",
    defaultText: "0",
    help: "share of rescaled guidance (2305.08891), against overexposure",
  },
  denoisingEnd: {
    kind: "number",
    min: 0,
    max: 1,
    group: "SDXL",
    defaultText: "1",
    help: "fraction of the noise schedule after which denoising ends",
  },
} as const satisfies Flags;

/** Values of {@linkcode xlFlags}. */
export type XLValues = Values<typeof xlFlags>;

/** The values where no flag is given. */
export const noXLValues: XLValues = {
  prompt2: undefined,
  negativePrompt2: undefined,
  originalSize: undefined,
  targetSize: undefined,
  crop: undefined,
  negativeOriginalSize: undefined,
  negativeTargetSize: undefined,
  negativeCrop: undefined,
  guidanceRescale: undefined,
  denoisingEnd: undefined,
};

/** The flags as the library's options, whose pairs are [height, width] and [top, left]. */
export function xlSettings(values: XLValues): XLSettings {
  return givenOptions({
    prompt2: values.prompt2,
    negativePrompt2: values.negativePrompt2,
    originalSize: turned(values.originalSize),
    targetSize: turned(values.targetSize),
    cropsCoordsTopLeft: turned(values.crop),
    negativeOriginalSize: turned(values.negativeOriginalSize),
    negativeTargetSize: turned(values.negativeTargetSize),
    negativeCropsCoordsTopLeft: turned(values.negativeCrop),
    guidanceRescale: values.guidanceRescale,
    denoisingEnd: values.denoisingEnd,
  });
}

/** The flags that settings stand for. */
export function xlValues(settings: XLSettings = {}): XLValues {
  return {
    prompt2: settings.prompt2,
    negativePrompt2: settings.negativePrompt2,
    originalSize: turned(settings.originalSize),
    targetSize: turned(settings.targetSize),
    crop: turned(settings.cropsCoordsTopLeft),
    negativeOriginalSize: turned(settings.negativeOriginalSize),
    negativeTargetSize: turned(settings.negativeTargetSize),
    negativeCrop: turned(settings.negativeCropsCoordsTopLeft),
    guidanceRescale: settings.guidanceRescale,
    denoisingEnd: settings.denoisingEnd,
  };
}

function turned(pair: PixelPair | undefined): PixelPair | undefined {
  return pair && [pair[1], pair[0]];
}

/**
 * Refuses flags that the model's family does not take.
 *
 * @throws {ArgumentError} for such a flag
 */
export function checkFamilyFlags(pipe: EditingPipeline, values: XLValues): void {
  if ("textEncoder2" in pipe) return;
  const given = (Object.keys(xlFlags) as (keyof XLValues)[]).find((name) => values[name] !== undefined);
  if (given === undefined) return;
  const flag = `--${kebab(given)}`;
  throw new ArgumentError(`Cannot use ${flag} as it is for SDXL, and the model is Stable Diffusion 1.x or 2.x`, {
    argument: flag,
  });
}
