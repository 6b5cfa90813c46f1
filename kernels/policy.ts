import type { DeviceClass, Gpu, SubgroupMatrix } from "../engine/gpu.ts";
import {
  attentionFormNumbers,
  type AttentionForms,
  type AttentionPath,
  unsupportedAttentionReason,
  useAttentionForms,
} from "./attention/form.ts";
import type { TileShape } from "./gemm/tile.ts";

/**
 * Kinds of product that want tiles of their own: `row` has 8 rows or fewer, `skinny` up to 64,
 * `few` too few results for large tiles to occupy a GPU, `many` enough of them.
 */
export const tileKinds = ["row", "skinny", "few", "many"] as const;
export type TileKind = typeof tileKinds[number];

/** The tile for each kind of product; those that are missing are the device class's. */
export type Tiles = Readonly<Partial<Record<TileKind, TileShape>>>;

/** What a tuner has found out about a device. */
export type DeviceTiles = Tiles & { readonly attention?: AttentionForms };

/**
 * {@linkcode DeviceTiles} by the name of the adapter that they were measured on: what a tuner
 * writes down.
 */
export type TileTable = Readonly<Record<string, DeviceTiles>>;

/** A tile table that cannot be read or used. */
export class TileTableError extends Error {
  override readonly name = "TileTableError";
}

/** The kind of an m × n result. */
export function tileKind(m: number, n: number): TileKind {
  if (m <= 8) return "row";
  if (m <= 64) return "skinny";
  return m >= 128 && n >= 128 && m * n >= 128 * 128 * 32 ? "many" : "few";
}

const workgroup = (threadsX: number, threadsY: number, rows: number, columns: number): TileShape => ({
  strategy: "workgroup",
  lanes: threadsX * threadsY,
  threadsX,
  rows,
  columns,
});

const small: Required<Tiles> = {
  row: workgroup(8, 8, 1, 1), // 8 × 32
  skinny: workgroup(8, 8, 4, 1), // 32 × 32
  few: workgroup(8, 8, 4, 1),
  many: workgroup(8, 8, 8, 2), // 64 × 64
};
const large: Required<Tiles> = { ...small, many: workgroup(16, 16, 8, 2) }; // 128 × 128

/**
 * Tiles of GPUs that nobody has tuned, reasoned from their registers: 64 numbers a thread and 128 ×
 * 128 a workgroup where there are 255 registers (NVIDIA, AMD), a quarter of that on the others.
 * Software devices: see {@linkcode softwareTiles}.
 */
const defaults: Readonly<Record<Exclude<DeviceClass, "software">, Required<Tiles>>> = {
  nvidia: large,
  amd: large,
  apple: small,
  intel: small,
  other: small,
};

/**
 * Tiles of software devices with subgroups of `lanes`: a lane's code is long, so rows are as few as
 * the product has.
 */
function softwareTiles(lanes: number): Required<Tiles> {
  const tile = (rows: number): TileShape => ({ strategy: "subgroup", lanes, threadsX: lanes, rows, columns: 2 });
  return { row: tile(8), skinny: tile(32), few: tile(32), many: tile(32) };
}

const tuned = new WeakMap<Gpu, Tiles>();

/**
 * Depth of the blocks of A and B in workgroup memory, for subgroup matrices: a multiple of their k.
 */
export const matrixDepth = 32;

/**
 * Tiles of subgroup matrices: four subgroups, two by two. Of 16 × 16 that is 128 × 128 with half of
 * NVIDIA's registers in sums, or 64 × 64 where tiles are few. Reasoned, not tuned.
 */
function matrixTiles(lanes: number): Tiles {
  const tile = (size: number): TileShape => ({
    strategy: "matrix",
    lanes: 4 * lanes,
    threadsX: 2,
    rows: size,
    columns: size,
  });
  return { few: tile(2), many: tile(4) };
}

/**
 * The tiles in use on a device: for products whose operands may be rounded to f16
 * (`allowF16Operands`), or for all others.
 */
export function tilesOf(gpu: Gpu, { allowF16Operands = false }: { allowF16Operands?: boolean } = {}): Required<Tiles> {
  const { deviceClass, subgroupSize, subgroupMatrix } = gpu.info;
  const base = deviceClass !== "software"
    ? defaults[deviceClass]
    : subgroupSize > 0
    ? softwareTiles(subgroupSize)
    : small;
  const own = Object.entries(tuned.get(gpu) ?? {}).filter(([, { strategy }]) =>
    allowF16Operands || strategy !== "matrix"
  );
  return {
    ...base,
    ...(allowF16Operands && subgroupMatrix ? matrixTiles(subgroupMatrix.lanes) : {}),
    ...Object.fromEntries(own),
  };
}

/**
 * The name that a device's tiles have in a table: the adapter's; with subgroup matrices in use,
 * others are fastest.
 */
export function tileTableName(gpu: Gpu): string {
  return gpu.info.name + (gpu.info.subgroupMatrix ? " with subgroup matrices" : "");
}

/**
 * Uses what a tuner found out about this adapter, from now on; an empty table goes back to the
 * class's tiles.
 *
 * @returns whether the table knows the adapter
 * @throws {TileTableError} when a tile of it cannot run on the device; nothing is changed then
 *
 * ```ts
 * using gpu = await Gpu.request();
 * useTiles(gpu, parseTileTable(await Deno.readTextFile("tiles.json"), "tiles.json"));
 * ```
 */
export function useTiles(gpu: Gpu, table: TileTable): boolean {
  const name = tileTableName(gpu);
  const known = Object.hasOwn(table, name);
  const { attention, ...tiles } = known ? table[name] : {};
  for (const [kind, shape] of Object.entries<TileShape>(tiles)) {
    const why = unsupportedReason(gpu, shape);
    if (why) throw new TileTableError(`Cannot use the tile for ${kind} on ${name} as ${why}`);
  }
  for (const [width, form] of Object.entries(attention ?? {})) {
    const why = unsupportedAttentionReason(gpu, Number(width), form);
    if (why) throw new TileTableError(`Cannot use the attention for heads of ${width} on ${name} as ${why}`);
  }
  if (known) tuned.set(gpu, tiles);
  else tuned.delete(gpu);
  useAttentionForms(gpu, attention);
  return known;
}

/** Why a device cannot run a tile. */
export function unsupportedReason(
  gpu: Gpu,
  { strategy, lanes, threadsX, rows, columns }: TileShape,
): string | undefined {
  const { subgroupSize, subgroupMatrix, limits } = gpu.info;
  if (strategy === "subgroup") {
    return lanes === subgroupSize ? undefined : `its subgroups have ${subgroupSize} lanes: ${lanes}`;
  }
  if (lanes > limits.maxComputeInvocationsPerWorkgroup) {
    return `its workgroups have ${limits.maxComputeInvocationsPerWorkgroup} threads at most: ${lanes}`;
  }
  if (strategy === "matrix") {
    if (!subgroupMatrix) return "it has no subgroup matrices, or they were not asked for";
    if (lanes % (subgroupMatrix.lanes * threadsX) !== 0) {
      return `its subgroups have ${subgroupMatrix.lanes} lanes, of which ${threadsX} side by side must divide the threads: ${lanes}`;
    }
  }
  const bytes = workgroupBytes({ strategy, lanes, threadsX, rows, columns }, subgroupMatrix);
  return bytes <= limits.maxComputeWorkgroupStorageSize
    ? undefined
    : `its workgroups share ${limits.maxComputeWorkgroupStorageSize} bytes at most: ${bytes}`;
}

/** Workgroup memory of a tile that passes A and B through it. */
function workgroupBytes({ strategy, lanes, threadsX, rows, columns }: TileShape, matrix?: SubgroupMatrix): number {
  if (strategy !== "matrix" || !matrix) return 4 * 16 * (rows * (lanes / threadsX) + 4 * columns * threadsX); // 16 deep
  const { m, n } = matrix, subgroups = lanes / matrix.lanes;
  const tileRows = rows * m * (subgroups / threadsX), tileColumns = columns * n * threadsX;
  return 2 * (tileRows * (matrixDepth + 8) + matrixDepth * (tileColumns + 8)) + 4 * subgroups * m * n;
}

/**
 * Reads a table from JSON. `source` names it in errors.
 *
 * @throws {TileTableError} when it is none
 */
export function parseTileTable(text: string, source: string): TileTable {
  const refuse = (why: string): never => {
    throw new TileTableError(`Cannot read tiles from ${source} as ${why}`);
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
  if (!isObject(table)) return refuse("it must be an object of adapters");
  for (const [adapter, tiles] of Object.entries(table)) {
    if (!isObject(tiles)) return refuse(`the tiles of ${adapter} must be an object`);
    const { attention = {}, ...products } = tiles;
    for (const [kind, shape] of Object.entries(products)) {
      if (!(tileKinds as readonly string[]).includes(kind)) {
        refuse(`there is no kind of product ${JSON.stringify(kind)}`);
      }
      if (!isObject(shape)) return refuse(`the tile of ${adapter} for ${kind} must be an object`);
      const { strategy } = shape;
      if (strategy !== "subgroup" && strategy !== "workgroup" && strategy !== "matrix") {
        refuse(`there is no strategy ${JSON.stringify(strategy)}`);
      }
      checkNumbers(shape, ["lanes", "threadsX", "rows", "columns"], `${adapter} for ${kind}`);
      if ((shape.lanes as number) % (shape.threadsX as number) !== 0) {
        refuse(`lanes of ${adapter} for ${kind} must be a multiple of threadsX`);
      }
    }
    if (!isObject(attention)) return refuse(`the attention of ${adapter} must be an object`);
    for (const [width, form] of Object.entries(attention)) {
      if (!/^[1-9]\d*$/.test(width)) refuse(`there are no heads ${JSON.stringify(width)} wide`);
      if (!isObject(form)) return refuse(`the attention of ${adapter} for ${width} must be an object`);
      if (!Object.hasOwn(attentionFormNumbers, form.path as string)) {
        refuse(`there is no path of attention ${JSON.stringify(form.path)}`);
      }
      checkNumbers(form, attentionFormNumbers[form.path as AttentionPath], `${adapter} for heads of ${width}`);
    }
  }
  return table as TileTable;
}
