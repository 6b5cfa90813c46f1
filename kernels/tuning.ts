/**
 * Tuned choices as data: their types, and parsing. `bluerose bench --tune` measures them;
 * `kernels/policy.ts` applies them.
 *
 * @module
 */
import { type AttentionForms, malformedFormReason } from "./attention/form.ts";
import { canGate, type TileShape } from "./gemm/tile_shape.ts";
import { malformedNumberReason, malformedTileReason } from "./gemm/tile_support.ts";

/**
 * Kinds of matrix product by the size of the result; each kind has its own tile.
 *
 * - `row`: up to 8 rows
 * - `skinny`: up to 64 rows
 * - `few`: more rows, but too few elements to occupy a GPU with large tiles
 * - `many`: enough elements for large tiles
 */
export const tileKinds: readonly TileKind[] = ["row", "skinny", "few", "many"];
/** A kind of product; see {@linkcode tileKinds}. */
export type TileKind = "row" | "skinny" | "few" | "many";

/** Tiles by kind of product. Missing kinds use the default of the device class. */
export type Tiles = Readonly<Partial<Record<TileKind, TileShape>>>;

/** The tile of one product, and the number of parts into which its k is split. */
export interface TunedProduct extends TileShape {
  /** Parts into which k is split, at least 1. */
  readonly splits: number;
}

/**
 * The tuned choices for one adapter. {@linkcode productKey} names the products of exact shapes.
 */
export type AdapterTuning = Tiles & {
  readonly attention?: AttentionForms;
  readonly products?: Readonly<Record<string, TunedProduct>>;
};

/**
 * What sets an m × n × k product apart from a plain one.
 *
 * - `gated`: a second half of B's 2n columns gates the first; see gatedProduct()
 * - `kernel` and `stride`: a convolution to m channels and n pixels. k counts the elements of a
 *   patch, with channels rounded up to a multiple of 4
 */
export type ProductVariant = "plain" | "gated" | {
  readonly kernel: readonly [height: number, width: number];
  readonly stride: number;
};

/**
 * The name of an m × n × k product in {@linkcode AdapterTuning}: "320x4096x2880", with the prefix
 * "gated " or, for a convolution, "conv 3x3/1 ".
 */
export function productKey(m: number, n: number, k: number, variant: ProductVariant = "plain"): string {
  const sizes = `${m}x${n}x${k}`;
  if (variant === "plain") return sizes;
  return variant === "gated" ? `gated ${sizes}` : `conv ${variant.kernel.join("x")}/${variant.stride} ${sizes}`;
}

/** Names that {@linkcode productKey} gives. */
const productKeys = /^(gated |conv [1-9]\d*x[1-9]\d*\/[1-9]\d* )?([1-9]\d*x){2}[1-9]\d*$/;

/**
 * The tuned choices by adapter (see `tuningName` of policy.ts), as `bluerose bench --tune` saves
 * them.
 */
export type Tuning = Readonly<Record<string, AdapterTuning>>;

/** Thrown for a tuning that cannot be parsed or that the device cannot run. */
export class TuningError extends Error {
  /** The name of the class. */
  override readonly name = "TuningError";
}

/**
 * Reads a tuning from JSON, for {@linkcode GpuOptions.tuning}.
 *
 * @param source names the text in errors
 * @throws {TuningError} when the text is not a tuning
 */
export function parseTuning(text: string, source: string): Tuning {
  const refuse = (why: string): never => {
    throw new TuningError(`Cannot read the tuning from ${source} as ${why}`);
  };
  let table: unknown;
  try {
    table = JSON.parse(text);
  } catch (error) {
    refuse(`it is not JSON: ${(error as Error).message}`);
  }
  if (!isObject(table)) return refuse("it must be a JSON object with adapter names as keys");
  for (const [adapter, entry] of Object.entries(table)) {
    const malformed = malformedTuningReason(entry, adapter);
    if (malformed) refuse(malformed);
  }
  return table as Tuning;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Why an object is no tuning of an adapter; undefined if it is one. `adapter` names it. */
export function malformedTuningReason(entry: unknown, adapter: string): string | undefined {
  if (!isObject(entry)) return `the entry of ${adapter} must be an object`;
  const { attention = {}, products = {}, ...kinds } = entry;
  if (!isObject(products)) return `the products of ${adapter} must be an object`;
  if (!isObject(attention)) return `the attention of ${adapter} must be an object`;
  for (const [kind, tile] of Object.entries(kinds)) {
    if (!(tileKinds as readonly string[]).includes(kind)) {
      return `the kind of product must be ${tileKinds.join(", ")}, products or attention: ${JSON.stringify(kind)}`;
    }
    const why = malformedTileReason(tile);
    if (why) return `${why} (${adapter} for ${kind})`;
  }
  for (const [key, product] of Object.entries(products)) {
    const why = malformedProductReason(key, product);
    if (why) return `${why} (${adapter} for ${key})`;
  }
  for (const [width, form] of Object.entries(attention)) {
    if (!/^[1-9]\d*$/.test(width)) return `a head width must be a positive whole number: ${JSON.stringify(width)}`;
    const why = malformedFormReason(form);
    if (why) return `${why} (${adapter} for heads of ${width})`;
  }
}

function malformedProductReason(key: string, product: unknown): string | undefined {
  if (!productKeys.test(key)) {
    return "the name of a product must be MxNxK, gated MxNxK or conv HxW/STRIDE MxNxK";
  }
  if (!isObject(product)) return malformedTileReason(product);
  const { splits, ...tile } = product as unknown as TunedProduct;
  const why = malformedTileReason(tile) ?? malformedNumberReason({ splits });
  if (why) return why;
  if (splits !== 1 && key.includes(" ")) return `splits must be 1: ${splits}`;
  if (key.startsWith("gated ") && !canGate(tile)) {
    return `the tile must be workgroup or half with 2 columns: ${tile.strategy}, ${tile.columns}`;
  }
}
