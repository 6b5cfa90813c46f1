/**
 * Tuned choices as data: their types, and parsing. `bluerose bench --tune` measures them;
 * `kernels/policy.ts` applies them.
 *
 * @module
 */
import { attentionFormNumbers, type AttentionForms, type AttentionPath } from "./attention/form.ts";
import { canGate, type TileShape, tileStrategies } from "./gemm/tile_shape.ts";

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
  const isObject = (value: unknown): value is Record<string, unknown> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  const checkNumbers = (from: Record<string, unknown>, names: readonly string[], whose: string) => {
    for (const name of names) {
      const value = from[name];
      if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > 1024) {
        refuse(`${name} of ${whose} must be a whole number from 1 to 1024: ${JSON.stringify(value)}`);
      }
    }
  };
  const checkTile = (shape: unknown, whose: string) => {
    if (!isObject(shape)) return refuse(`the tile of ${whose} must be an object`);
    const { strategy } = shape;
    if (!(tileStrategies as readonly unknown[]).includes(strategy)) {
      refuse(`the strategy must be ${tileStrategies.join(", ")}: ${JSON.stringify(strategy)}`);
    }
    const optional = Object.hasOwn(shape, "accesses") ? ["accesses"] : [];
    checkNumbers(shape, ["lanes", "threadsX", "rows", "columns", ...optional], whose);
    if ((shape.lanes as number) % (shape.threadsX as number) !== 0) {
      refuse(`lanes of ${whose} must be a multiple of threadsX: ${shape.lanes}, ${shape.threadsX}`);
    }
  };
  if (!isObject(table)) return refuse("it must be a JSON object with adapter names as keys");
  for (const [adapter, tiles] of Object.entries(table)) {
    if (!isObject(tiles)) return refuse(`the entry of ${adapter} must be an object`);
    const { attention = {}, products = {}, ...kinds } = tiles;
    for (const [kind, shape] of Object.entries(kinds)) {
      if (!(tileKinds as readonly string[]).includes(kind)) {
        refuse(`the kind of product must be ${tileKinds.join(", ")}, products or attention: ${JSON.stringify(kind)}`);
      }
      checkTile(shape, `${adapter} for ${kind}`);
    }
    if (!isObject(products)) return refuse(`the products of ${adapter} must be an object`);
    for (const [key, shape] of Object.entries(products)) {
      if (!productKeys.test(key)) {
        refuse(`the name of a product must be MxNxK, gated MxNxK or conv HxW/STRIDE MxNxK: ${JSON.stringify(key)}`);
      }
      checkTile(shape, `${adapter} for ${key}`);
      const { splits, ...tile } = shape as TunedProduct;
      checkNumbers({ splits }, ["splits"], `${adapter} for ${key}`);
      if (splits !== 1 && key.includes(" ")) refuse(`splits of ${adapter} for ${key} must be 1: ${splits}`);
      if (key.startsWith("gated ") && !canGate(tile)) {
        const { strategy, columns } = tile;
        refuse(`the tile of ${adapter} for ${key} must be workgroup or half with 2 columns: ${strategy}, ${columns}`);
      }
    }
    if (!isObject(attention)) return refuse(`the attention of ${adapter} must be an object`);
    for (const [width, form] of Object.entries(attention)) {
      if (!/^[1-9]\d*$/.test(width)) refuse(`a head width must be a positive whole number: ${JSON.stringify(width)}`);
      if (!isObject(form)) return refuse(`the attention of ${adapter} for ${width} must be an object`);
      if (!Object.hasOwn(attentionFormNumbers, form.path as string)) {
        refuse(
          `the attention path must be ${Object.keys(attentionFormNumbers).join(", ")}: ${JSON.stringify(form.path)}`,
        );
      }
      checkNumbers(form, attentionFormNumbers[form.path as AttentionPath], `${adapter} for heads of ${width}`);
    }
  }
  return table as Tuning;
}
