/** `preprocessor_config.json`. @module */

import { Fields, isCount, maxSide } from "./fields.ts";

/**
 * `preprocessor_config.json`: transformers' `CLIPImageProcessor`. A step that the file disables is
 * `null`.
 */
export interface CLIPImageProcessorConfig {
  /** Size after resizing, in pixels: of the shortest edge, or of both sides. */
  readonly resize: { readonly shortestEdge: number } | { readonly height: number; readonly width: number } | null;
  /** Size of the center crop, in pixels. */
  readonly crop: { readonly height: number; readonly width: number } | null;
  /** Factor that bytes are multiplied by. */
  readonly rescaleFactor: number | null;
  /** Per channel: (x − mean) / std. */
  readonly normalize: { readonly mean: readonly number[]; readonly std: readonly number[] } | null;
}

/** Mean and standard deviation of CLIP's training images, per channel. */
const clipMean = [0.48145466, 0.4578275, 0.40821073];
const clipStd = [0.26862954, 0.26130258, 0.27577711];

/**
 * Reads the configuration of CLIP's image processor.
 *
 * @throws {ConfigError} for other image processors, filters other than bicubic, and invalid sizes
 *   or factors.
 */
export function parseCLIPImageProcessorConfig(json: unknown, file: string): CLIPImageProcessorConfig {
  const fields = new Fields(json, file);
  const className = fields.value("image_processor_type") == null ? "feature_extractor_type" : "image_processor_type";
  // The old and the new name of one class, and its torchvision version with the same settings.
  fields.oneOf(className, "CLIPImageProcessor", [
    "CLIPImageProcessor",
    "CLIPFeatureExtractor",
    "CLIPImageProcessorFast",
  ]);

  const doResize = fields.boolean("do_resize", true);
  const doCenterCrop = fields.boolean("do_center_crop", true);
  const doRescale = fields.boolean("do_rescale", true);
  const doNormalize = fields.boolean("do_normalize", true);
  if (doResize && fields.number("resample", 3) !== 3) fields.refuse("resample", "3 (bicubic)");
  // In this case transformers 4.35 rounds mean and std to integers, and then divides by 0.
  if (doNormalize && !doRescale) fields.refuse("do_rescale", "true where do_normalize is true");

  const numbers = (key: string, fallback: readonly number[]): readonly number[] => {
    const value = fields.value(key) ?? fallback;
    const list: unknown = typeof value === "number" ? [value, value, value] : value;
    const isList = Array.isArray(list) && list.length === 3 && list.every((item) => Number.isFinite(item));
    return isList ? list : fields.refuse(key, "a number, or a list of three numbers");
  };
  const mean = numbers("image_mean", clipMean);
  const std = numbers("image_std", clipStd);
  if (std.some((deviation) => deviation <= 0)) fields.refuse("image_std", "numbers above 0");
  const rescaleFactor = fields.number("rescale_factor", 1 / 255);
  if (rescaleFactor <= 0) fields.refuse("rescale_factor", "a number above 0");
  return {
    resize: doResize ? resizeOf(fields) : null,
    crop: doCenterCrop ? sidesOf(fields, "crop_size") : null,
    rescaleFactor: doRescale ? rescaleFactor : null,
    normalize: doNormalize ? { mean, std } : null,
  };
}

function resizeOf(fields: Fields): NonNullable<CLIPImageProcessorConfig["resize"]> {
  const supported = "a whole number, { shortest_edge } or { height, width }";
  const value = withoutNulls(fields.value("size")) ?? 224;
  if (typeof value === "object" && value !== null && "height" in value) return sidesOf(fields, "size");
  const isObject = typeof value === "object" && value !== null;
  const keys = isObject ? Object.keys(value) : ["shortest_edge"];
  const edge = isObject && "shortest_edge" in value ? value.shortest_edge : value;
  if (!isCount(edge, maxSide) || keys.length !== 1) fields.refuse("size", supported);
  return fields.boolean("use_square_size", false) ? { height: edge, width: edge } : { shortestEdge: edge };
}

function sidesOf(fields: Fields, key: string): { height: number; width: number } {
  const value = withoutNulls(fields.value(key)) ?? 224;
  if (isCount(value, maxSide)) return { height: value, width: value };
  const { height, width, ...others } = Object(value);
  if (!isCount(height, maxSide) || !isCount(width, maxSide) || Object.keys(others).length > 0) {
    fields.refuse(key, "a whole number, or { height, width }");
  }
  return { height, width };
}

/** The fast processors of later versions name every kind of size, with `null` for the others. */
function withoutNulls(size: unknown): unknown {
  if (typeof size !== "object" || size === null) return size;
  return Object.fromEntries(Object.entries(size).filter(([, side]) => side !== null));
}
