import type { DeviceClass, Gpu } from "../engine/gpu.ts";
import type { TileShape } from "./tile.ts";

/**
 * Kinds of product that want tiles of their own: `row` has 8 rows or fewer, `skinny` up to 64, `few` too few results for large tiles to occupy a
 * GPU, `many` enough of them.
 */
export const tileKinds = ["row", "skinny", "few", "many"] as const;
export type TileKind = typeof tileKinds[number];

/** The tile for each kind of product; those that are missing are the device class's. */
export type Tiles = Readonly<Partial<Record<TileKind, TileShape>>>;

/** {@linkcode Tiles} by the name of the adapter that they were measured on: what a tuner writes down. */
export type TileTable = Readonly<Record<string, Tiles>>;

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
  machine: "workgroup",
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
 * Tiles of GPUs that nobody has tuned, reasoned from their registers: 64 numbers a thread and 128 × 128 a workgroup where there are 255 registers
 * (NVIDIA, AMD), a quarter of that on the others. Software devices: see {@linkcode softwareTiles}.
 */
const defaults: Readonly<Record<Exclude<DeviceClass, "software">, Required<Tiles>>> = {
  nvidia: large,
  amd: large,
  apple: small,
  intel: small,
  other: small,
};

/** Tiles of software devices with subgroups of `lanes`: a lane's code is long, so rows are as few as the product has. */
function softwareTiles(lanes: number): Required<Tiles> {
  const tile = (rows: number): TileShape => ({ machine: "subgroup", lanes, threadsX: lanes, rows, columns: 2 });
  return { row: tile(8), skinny: tile(32), few: tile(32), many: tile(32) };
}

const tuned = new WeakMap<Gpu, Tiles>();

/** The tiles in use on a device. */
export function tilesOf(gpu: Gpu): Required<Tiles> {
  const { deviceClass, subgroupSize } = gpu.info;
  const base = deviceClass !== "software"
    ? defaults[deviceClass]
    : subgroupSize > 0
    ? softwareTiles(subgroupSize)
    : small;
  return { ...base, ...tuned.get(gpu) };
}

/**
 * Uses what a tuner found out about this adapter, from now on; an empty table goes back to the class's tiles.
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
  const tiles = Object.hasOwn(table, gpu.info.name) ? table[gpu.info.name] : undefined;
  for (const [kind, shape] of Object.entries(tiles ?? {})) {
    const why = refusal(gpu, shape);
    if (why) throw new TileTableError(`Cannot use the tile for ${kind} on ${gpu.info.name} as ${why}`);
  }
  if (tiles) tuned.set(gpu, tiles);
  else tuned.delete(gpu);
  return tiles !== undefined;
}

/** Why a device cannot run a tile. */
export function refusal(gpu: Gpu, { machine, lanes, threadsX, rows, columns }: TileShape): string | undefined {
  const { subgroupSize, limits } = gpu.info;
  if (machine === "subgroup") {
    return lanes === subgroupSize ? undefined : `its subgroups have ${subgroupSize} lanes: ${lanes}`;
  }
  if (lanes > limits.maxComputeInvocationsPerWorkgroup) {
    return `its workgroups have ${limits.maxComputeInvocationsPerWorkgroup} threads at most: ${lanes}`;
  }
  const bytes = 4 * 16 * (rows * (lanes / threadsX) + 4 * columns * threadsX); // blocks of A and B, 16 deep
  return bytes <= limits.maxComputeWorkgroupStorageSize
    ? undefined
    : `its workgroups share ${limits.maxComputeWorkgroupStorageSize} bytes at most: ${bytes}`;
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
  if (!isObject(table)) return refuse("it must be an object of adapters");
  for (const [adapter, tiles] of Object.entries(table)) {
    if (!isObject(tiles)) return refuse(`the tiles of ${adapter} must be an object`);
    for (const [kind, shape] of Object.entries(tiles)) {
      if (!(tileKinds as readonly string[]).includes(kind)) {
        refuse(`there is no kind of product ${JSON.stringify(kind)}`);
      }
      if (!isObject(shape)) return refuse(`the tile of ${adapter} for ${kind} must be an object`);
      const { machine, ...numbers } = shape;
      if (machine !== "subgroup" && machine !== "workgroup") refuse(`there is no machine ${JSON.stringify(machine)}`);
      for (const name of ["lanes", "threadsX", "rows", "columns"]) {
        const value = numbers[name];
        if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > 1024) {
          refuse(`${name} of ${adapter} for ${kind} must be a whole number from 1 to 1024: ${JSON.stringify(value)}`);
        }
      }
      if ((numbers.lanes as number) % (numbers.threadsX as number) !== 0) {
        refuse(`lanes of ${adapter} for ${kind} must be a multiple of threadsX`);
      }
    }
  }
  return table as TileTable;
}
