/**
 * Every choice that depends on the device: tiles, forms of attention, workgroup shapes, thresholds.
 *
 * A kernel asks {@linkcode policyOf} its device. A policy never changes: it follows from the
 * device's description and from the tuning that the device was opened with.
 *
 * @module
 */
import type { DeviceDescription } from "../engine/device_info.ts";
import type { DeviceClass, Gpu, GpuInfo, SubgroupMatrix } from "../engine/gpu.ts";
import {
  type AttentionForm,
  attentionFormNumbers,
  attentionFormOn,
  type AttentionForms,
  type AttentionPath,
  unsupportedAttentionReason,
} from "./attention/form.ts";
import type { AttentionSizes } from "./attention/sizes.ts";
import type { TileShape } from "./gemm/tile_shape.ts";

/**
 * Kinds of product, each with a tile of its own: `row` has up to 8 rows, `skinny` up to 64, `few`
 * has too few results for large tiles to occupy a GPU, `many` has enough.
 */
export const tileKinds: readonly TileKind[] = ["row", "skinny", "few", "many"];
/** A kind of product; see {@linkcode tileKinds}. */
export type TileKind = "row" | "skinny" | "few" | "many";

/** Tiles by kind of product. Missing kinds use the default of the device class. */
export type Tiles = Readonly<Partial<Record<TileKind, TileShape>>>;

/** The tuned choices for one adapter. */
export type AdapterTuning = Tiles & { readonly attention?: AttentionForms };

/**
 * The tuned choices by adapter (see {@linkcode tuningName}), as `bluerose bench --tune` saves them.
 */
export type Tuning = Readonly<Record<string, AdapterTuning>>;

/** A tuning that cannot be read, or that the device cannot run. */
export class TuningError extends Error {
  /** The name of the class. */
  override readonly name = "TuningError";
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
 * Default tiles of GPUs, derived from their registers: 128 × 128 results per workgroup where an
 * invocation has 255 registers (NVIDIA, AMD), 64 × 64 elsewhere.
 */
const defaults: Readonly<Record<Exclude<DeviceClass, "software">, Required<Tiles>>> = {
  nvidia: large,
  amd: large,
  apple: small,
  intel: small,
  other: small,
};

/** Default tiles of software devices with subgroups. Rows are few, because code is unrolled. */
function softwareTiles(lanes: number): Required<Tiles> {
  const tile = (rows: number): TileShape => ({ strategy: "subgroup", lanes, threadsX: lanes, rows, columns: 2 });
  return { row: tile(8), skinny: tile(32), few: tile(32), many: tile(32) };
}

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

/** The name of a device's entry in a {@linkcode Tuning}. Subgroup matrices are tuned apart. */
export function tuningName(info: GpuInfo): string {
  return info.name + (info.subgroupMatrix ? " with subgroup matrices" : "");
}

/** Options of {@linkcode Policy.tileFor}. */
export interface TileOptions {
  /** Whether the rows of the result are multiples of 4. Default: true. */
  readonly vec4?: boolean;
  /** Whether B is gathered element by element, as a convolution's patches are. Default: false. */
  readonly isGathered?: boolean;
  /** Whether operands may be rounded to f16, for subgroup matrices. Default: false. */
  readonly allowF16Operands?: boolean;
}

/** Sizes that decide about the 3×3 convolution kernel. */
export interface Conv3x3Sizes {
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly inChannels: number;
  readonly stride: number;
  readonly padding: readonly number[];
  /** Width of the input. */
  readonly width: number;
}

/** The choices for one device. Made by {@linkcode policyFor}. */
export class Policy {
  readonly #info: GpuInfo;
  readonly #tuned: AdapterTuning;

  /** @throws {TuningError} when the device cannot run what its tuning says */
  constructor({ info, options }: DeviceDescription) {
    this.#info = info;
    const name = tuningName(info);
    const tuning: Tuning = (options.tuning ?? {}) as Tuning;
    this.#tuned = Object.hasOwn(tuning, name) ? tuning[name] : {};
    const { attention = {}, ...tiles } = this.#tuned;
    for (const [kind, shape] of Object.entries<TileShape>(tiles)) {
      const why = unsupportedReason(info, shape);
      if (why) throw new TuningError(`Cannot use the tile for ${kind} on ${name} as ${why}`);
    }
    for (const [width, form] of Object.entries(attention)) {
      const why = unsupportedAttentionReason(info, Number(width), form);
      if (why) throw new TuningError(`Cannot use the attention for heads of ${width} on ${name} as ${why}`);
    }
  }

  get #isSoftware(): boolean {
    return this.#info.deviceClass === "software";
  }

  /** Whether register tiles are shared by subgroup broadcasts and not through workgroup memory. */
  get #usesSubgroupTiles(): boolean {
    return this.#isSoftware && this.#info.subgroupSize > 0;
  }

  /** The tile for each kind of product: tuned ones before those of the device class. */
  tiles({ allowF16Operands = false }: { readonly allowF16Operands?: boolean } = {}): Required<Tiles> {
    const { deviceClass, subgroupSize, subgroupMatrix } = this.#info;
    const base = deviceClass !== "software"
      ? defaults[deviceClass]
      : subgroupSize > 0
      ? softwareTiles(subgroupSize)
      : small;
    const { attention: _, ...tiles } = this.#tuned;
    const own = Object.entries<TileShape>(tiles).filter(([, { strategy }]) =>
      allowF16Operands || strategy !== "matrix"
    );
    return {
      ...base,
      ...(allowF16Operands && subgroupMatrix ? matrixTiles(subgroupMatrix.lanes) : {}),
      ...Object.fromEntries(own),
    };
  }

  /**
   * The tile for an m × n result.
   *
   * Software devices get a small tile where results cannot be stored as vec4, since each element is
   * then an access of its own, and one column where B is gathered, since a second column saves no
   * access.
   */
  tileFor(m: number, n: number, options: TileOptions = {}): TileShape {
    const { vec4 = true, isGathered = false, allowF16Operands } = options;
    const shape = this.tiles({ allowF16Operands })[tileKind(m, n)];
    if (shape.strategy !== "subgroup") return shape;
    if (!vec4) return { ...shape, rows: 8, columns: 1 };
    return n > 4 * shape.lanes && !isGathered ? shape : { ...shape, columns: 1 };
  }

  /**
   * Into how many parts k is split, for a result of `workgroups` tiles: more than one where the
   * result alone would not occupy a GPU.
   */
  splitsFor(workgroups: number, k: number): number {
    if (this.#isSoftware) return 1;
    let splits = 1;
    while (
      splits < 8 && workgroups * splits * 2 <= enoughWorkgroups && k % (splits * 16) === 0 &&
      k / (splits * 2) >= leastDepth
    ) splits *= 2;
    return splits;
  }

  /** The form of an attention: the tuned one for its head width, or the device class's. */
  attentionFor(sizes: AttentionSizes): AttentionForm {
    const { attention = {} } = this.#tuned, width = `${sizes.dim}`;
    if (Object.hasOwn(attention, width)) return attention[width];
    if (sizes.dim > widestStreamed[this.#isSoftware ? "software" : "gpu"]) return { path: "staged" };
    return (this.#isSoftware ? attentionFormOn(this.#info, "subgroup", sizes) : undefined) ??
      attentionFormOn(this.#info, "workgroup", sizes) ?? { path: "staged" };
  }

  /** Workgroup shape of elementwise kernels: lanes along x and y, and columns of a lane. */
  elementwise(rows: number, columns: number): { LANES_X: number; LANES_Y: number; TURNS: number } {
    if (this.#isSoftware) return { LANES_X: 8, LANES_Y: 1, TURNS: 16 };
    // Narrow rows share a workgroup.
    const across = rows === 1 ? 64 : Math.min(64, Math.max(4, 2 ** Math.ceil(Math.log2(columns))));
    return { LANES_X: across, LANES_Y: 64 / across, TURNS: rows === 1 ? 1 : 4 };
  }

  /**
   * How rows are reduced: by one subgroup where its size is known, else by 64 lanes (8 on software
   * devices) through workgroup memory.
   */
  get reduction(): { readonly LANES: number; readonly SUBGROUP: boolean } {
    const { subgroupSize } = this.#info;
    if (subgroupSize > 0) return { LANES: subgroupSize, SUBGROUP: true };
    return { LANES: this.#isSoftware ? 8 : 64, SUBGROUP: false };
  }

  /**
   * Workgroups of a group norm, and the least accesses of one: GPUs want thousands of workgroups.
   */
  get groupNorm(): { readonly workgroups: number; readonly leastAccesses: number } {
    const { LANES } = this.reduction;
    return this.#isSoftware
      ? { workgroups: 64, leastAccesses: 64 * LANES }
      : { workgroups: 8192, leastAccesses: 8 * LANES };
  }

  /** Rows that a workgroup of layer norm takes side by side. */
  layerNormRows(rows: number): number {
    return this.#isSoftware && rows >= 64 ? 4 : 1;
  }

  /**
   * Whether rows of `bytes` are copied between buffers and not by a kernel. Software devices copy
   * at memory speed; on GPUs, leaving the compute pass costs more than the copy.
   */
  copiesBuffers(bytes: number): boolean {
    return this.#isSoftware && bytes >= 8192;
  }

  /**
   * Whether the kernel for 3×3 convolutions on software devices suits. A few channels are not worth
   * compiling another kernel.
   */
  suitsConv3x3(c: Conv3x3Sizes): boolean {
    return this.#usesSubgroupTiles && c.kernelHeight === 3 && c.kernelWidth === 3 && c.inChannels >= 8 &&
      c.stride === 1 && c.padding.every((side) => side === 1) && c.width % 4 === 0;
  }

  /** Whether the exact product runs on subgroups, and the lanes of its workgroups. */
  get exactProduct(): { readonly SUBGROUP: boolean; readonly LANES: number } {
    return this.#usesSubgroupTiles
      ? { SUBGROUP: true, LANES: this.#info.subgroupSize }
      : { SUBGROUP: false, LANES: 64 };
  }

  /**
   * The tile of a product of real matrices. Small products run on a small tile: a large one takes
   * longer to compile than it saves.
   */
  realTile(rows: number, columns: number, depth: number): TileShape {
    if (!this.#usesSubgroupTiles) return { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 4, columns: 1 };
    const lanes = this.#info.subgroupSize;
    const tile = { strategy: "subgroup", lanes, threadsX: lanes } as const;
    if (rows * columns * depth < 6e6) return { ...tile, rows: 8, columns: 1 };
    return { ...tile, rows: rows > 8 ? 16 : 8, columns: columns >= 8 * lanes ? 2 : 1 };
  }
}

/** Workgroups that occupy a GPU, roughly; and the least k of a part. */
const enoughWorkgroups = 128, leastDepth = 256;

/**
 * The widest heads of one-pass attention: an invocation holds the results of its queries, and wider
 * heads would spill. On software devices staged attention is faster before that.
 */
const widestStreamed = { gpu: 160, software: 96 } as const;

/** Makes the policy of a device. @throws {TuningError} when it cannot run what its tuning says */
export function policyFor(device: DeviceDescription): Policy {
  return new Policy(device);
}

/** The policy of an open device; made once. @throws {TuningError} as {@linkcode policyFor} */
export function policyOf(gpu: Gpu): Policy {
  return gpu.context.memo(policyFor);
}

/** Why a device cannot run a tile; undefined if it can. */
export function unsupportedReason(
  info: GpuInfo,
  { strategy, lanes, threadsX, rows, columns }: TileShape,
): string | undefined {
  const { subgroupSize, subgroupMatrix, limits } = info;
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
  // 16 deep
  if (strategy !== "matrix" || !matrix) return 4 * 16 * (rows * (lanes / threadsX) + 4 * columns * threadsX);
  const { m, n } = matrix, subgroups = lanes / matrix.lanes;
  const tileRows = rows * m * (subgroups / threadsX), tileColumns = columns * n * threadsX;
  return 2 * (tileRows * (matrixDepth + 8) + matrixDepth * (tileColumns + 8)) + 4 * subgroups * m * n;
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
  return table as Tuning;
}
