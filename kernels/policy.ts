/**
 * Every choice that depends on the device: tiles, attention forms, workgroup shapes, thresholds.
 *
 * An operation calls {@linkcode policyOf} with its device. A policy is immutable: the device's
 * description and the tuning that the device was opened with determine it. Measurements behind the
 * defaults: docs/tuning.md.
 *
 * @module
 */
import type { DeviceDescription } from "../engine/device_info.ts";
import type { DeviceClass, Gpu, GpuInfo, SubgroupMatrix } from "../engine/gpu.ts";
import { type AttentionForm, attentionFormOn, isLong, unsupportedAttentionReason } from "./attention/form.ts";
import type { AttentionSizes } from "./attention/sizes.ts";
import type { TileShape } from "./gemm/tile_shape.ts";
import { type AdapterTuning, productKey, type TileKind, type Tiles, type Tuning, TuningError } from "./tuning.ts";

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
  few: workgroup(8, 8, 4, 2), // 32 × 64
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

/** Default tiles of software devices with subgroups. More rows would lengthen the unrolled code. */
function softwareTiles(lanes: number): Required<Tiles> {
  const tile = (rows: number): TileShape => ({ strategy: "subgroup", lanes, threadsX: lanes, rows, columns: 2 });
  return { row: tile(8), skinny: tile(32), few: tile(32), many: tile(32) };
}

/**
 * Depth (k) of the blocks of A and B in workgroup memory in tiles of subgroup matrices; a multiple
 * of the k of one matrix.
 */
export const matrixDepth = 32;

/**
 * Default tiles of subgroup matrices: 2 × 2 subgroups of 4 × 4 matrices, or of 2 × 2 matrices for
 * results that are small. With matrices of 16 × 16 that is 128 × 128 and 64 × 64 elements; the sums
 * of the larger tile take half of NVIDIA's registers. Derived, not tuned.
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
 * Default tiles of f16 arithmetic: the workgroup tiles of the device's class, or on software
 * devices small ones, whose unrolled code compiles faster. Derived, not tuned.
 */
function halfTiles(deviceClass: DeviceClass): Required<Tiles> {
  const base = deviceClass === "software" ? { ...small, few: small.skinny, many: small.skinny } : defaults[deviceClass];
  const half = (tile: TileShape): TileShape => ({ ...tile, strategy: "half" });
  return { row: half(base.row), skinny: half(base.skinny), few: half(base.few), many: half(base.many) };
}

/**
 * The name of a device's entry in a {@linkcode Tuning}. A device opened with subgroup matrices or
 * f16 arithmetic has an entry of its own.
 */
export function tuningName(info: GpuInfo): string {
  return info.name + (info.subgroupMatrix ? " with subgroup matrices" : "") +
    (info.arithmetic === "f16" ? " with f16 arithmetic" : "");
}

/** Options of {@linkcode Policy.tileFor}. */
export interface TileOptions {
  /** Whether the row length of the result is a multiple of 4. Default: true. */
  readonly vec4?: boolean;
  /** Whether B is gathered element by element, as a convolution's patches are. Default: false. */
  readonly isGathered?: boolean;
  /**
   * Whether operands may be rounded to f16, which subgroup matrices and f16 arithmetic require.
   * Default: false.
   */
  readonly allowF16Operands?: boolean;
}

/** Sizes on which {@linkcode Policy.convPath} depends. */
export interface ConvSizes {
  readonly batch: number;
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly stride: number;
  readonly upsample: "none" | "double" | "any";
  /** Top, left, bottom, right. */
  readonly padding: readonly number[];
  /** Width of the input. */
  readonly width: number;
  readonly outHeight: number;
  readonly outWidth: number;
}

/** How the exact product runs; see {@linkcode Policy.exactProduct}. */
export interface ExactProductForm {
  readonly SUBGROUP: boolean;
  readonly LANES: number;
  readonly THREADS_X: number;
  readonly ROWS: number;
  readonly COLUMNS: number;
  readonly LOOPED: boolean;
}

/** The choices for one device. Created by {@linkcode policyFor}. */
export class Policy {
  readonly #info: GpuInfo;
  readonly #tuned: AdapterTuning;

  /** @throws {TuningError} when the device cannot run its tuning */
  constructor({ info, options }: DeviceDescription) {
    this.#info = info;
    const name = tuningName(info);
    const tuning: Tuning = (options.tuning ?? {}) as Tuning;
    this.#tuned = Object.hasOwn(tuning, name) ? tuning[name] : {};
    const { attention = {}, products = {}, ...tiles } = this.#tuned;
    for (const [kind, shape] of Object.entries<TileShape>({ ...tiles, ...products })) {
      const why = unsupportedReason(info, shape);
      if (why) throw new TuningError(`Cannot use the tuned tile "${kind}" on ${name} as ${why}`);
    }
    for (const [width, form] of Object.entries(attention)) {
      const why = unsupportedAttentionReason(info, Number(width), form);
      if (why) throw new TuningError(`Cannot use the tuned attention for head width ${width} on ${name} as ${why}`);
    }
  }

  /** Whether the device computes on the CPU, as lavapipe and SwiftShader do. */
  get isSoftware(): boolean {
    return this.#info.deviceClass === "software";
  }

  /** The tuning in use for this device; empty where it has none. */
  get tuned(): AdapterTuning {
    return this.#tuned;
  }

  /** The devices whose defaults this one gets, as text. */
  get defaultsName(): string {
    const { deviceClass, subgroupSize } = this.#info;
    if (deviceClass === "software") return `software devices with${subgroupSize > 0 ? "" : "out"} subgroups`;
    return defaults[deviceClass] === large
      ? "NVIDIA and AMD GPUs, which have 255 registers an invocation"
      : "GPUs with few registers an invocation";
  }

  /** Whether tiles share operands by subgroup broadcasts instead of workgroup memory. */
  get #usesSubgroupTiles(): boolean {
    return this.isSoftware && this.#info.subgroupSize > 0;
  }

  /** The tile of each kind of product: the tuned one, else the default of the device class. */
  tiles({ allowF16Operands = false }: { readonly allowF16Operands?: boolean } = {}): Required<Tiles> {
    const { deviceClass, subgroupSize, subgroupMatrix, arithmetic } = this.#info;
    const base = deviceClass !== "software"
      ? defaults[deviceClass]
      : subgroupSize > 0
      ? softwareTiles(subgroupSize)
      : small;
    const { attention: _, products: __, ...tiles } = this.#tuned;
    const own = Object.entries<TileShape>(tiles).filter(([, tile]) => allowF16Operands || !roundsOperands(tile));
    return {
      ...base,
      ...(allowF16Operands && arithmetic === "f16" ? halfTiles(deviceClass) : {}),
      ...(allowF16Operands && subgroupMatrix ? matrixTiles(subgroupMatrix.lanes) : {}),
      ...Object.fromEntries(own),
    };
  }

  /**
   * The tile for an m × n result.
   *
   * On software devices, a result that cannot be stored as vec4 gets a small tile, because each
   * element is then a separate access. A gathered B gets one column, because a second column would
   * not save any access.
   */
  tileFor(m: number, n: number, options: TileOptions = {}): TileShape {
    const { vec4 = true, isGathered = false, allowF16Operands } = options;
    const shape = this.tiles({ allowF16Operands })[tileKind(m, n)];
    if (shape.strategy !== "subgroup") return shape;
    if (!vec4) return { ...shape, rows: 8, columns: 1 };
    return n > 4 * shape.lanes && !isGathered ? shape : { ...shape, columns: 1 };
  }

  /** The tuned tile and split of an m × n × k product; undefined where this shape was not tuned. */
  tunedProduct(
    m: number,
    n: number,
    k: number,
    { allowF16Operands = false }: { readonly allowF16Operands?: boolean } = {},
  ): { readonly tile: TileShape; readonly splits: number } | undefined {
    const { products = {} } = this.#tuned, key = productKey(m, n, k);
    if (!Object.hasOwn(products, key)) return undefined;
    const { splits, ...tile } = products[key];
    if (roundsOperands(tile) && !allowF16Operands || k % splits !== 0) return undefined;
    return { tile, splits };
  }

  /**
   * Number of parts into which k is split for a result of `workgroups` tiles: more than one where
   * the tiles alone would not occupy a GPU.
   */
  splitsFor(workgroups: number, k: number): number {
    if (this.isSoftware) return 1;
    let splits = 1;
    while (
      splits < 8 && workgroups * splits * 2 <= enoughWorkgroups && k % (splits * 16) === 0 &&
      k / (splits * 2) >= minimumDepth
    ) splits *= 2;
    return splits;
  }

  /** The form of an attention: the tuned one for its head width, else the device's default. */
  attentionFor(sizes: AttentionSizes): AttentionForm {
    const { attention = {} } = this.#tuned, width = `${sizes.dim}`;
    if (Object.hasOwn(attention, width)) return attention[width];
    if (sizes.dim > widestOnePass || this.isSoftware && sizes.dim > 96 && !isLong(sizes)) return { path: "staged" };
    return (this.isSoftware ? attentionFormOn(this.#info, "subgroup", sizes) : undefined) ??
      attentionFormOn(this.#info, "workgroup", sizes) ?? { path: "staged" };
  }

  /** Workgroup shape of elementwise kernels: lanes along x and y, and columns per lane. */
  elementwise(rows: number, columns: number): { LANES_X: number; LANES_Y: number; TURNS: number } {
    if (this.isSoftware) return { LANES_X: 8, LANES_Y: 1, TURNS: 16 };
    // Narrow rows share a workgroup.
    const across = rows === 1 ? 64 : Math.min(64, Math.max(4, 2 ** Math.ceil(Math.log2(columns))));
    return { LANES_X: across, LANES_Y: 64 / across, TURNS: rows === 1 ? 1 : 4 };
  }

  /**
   * How a workgroup reduces a row: as one subgroup where the subgroup size is known, else as 64
   * lanes (8 on software devices) through workgroup memory.
   */
  get reduction(): { readonly LANES: number; readonly SUBGROUP: boolean } {
    const { subgroupSize } = this.#info;
    if (subgroupSize > 0) return { LANES: subgroupSize, SUBGROUP: true };
    return { LANES: this.isSoftware ? 8 : 64, SUBGROUP: false };
  }

  /**
   * Target number of workgroups of a group norm, and the minimum number of accesses of one. A GPU
   * needs thousands of workgroups; on software devices each workgroup has a fixed cost.
   */
  get groupNorm(): { readonly workgroups: number; readonly leastAccesses: number } {
    const { LANES } = this.reduction;
    return this.isSoftware
      ? { workgroups: 64, leastAccesses: 64 * LANES }
      : { workgroups: 8192, leastAccesses: 8 * LANES };
  }

  /** Rows per workgroup of layer norm. */
  layerNormRows(rows: number): number {
    return this.isSoftware && rows >= 64 ? 4 : 1;
  }

  /**
   * Whether rows of `bytes` bytes are copied by buffer copies instead of a kernel. Software devices
   * copy buffers at memory speed. On GPUs, ending the compute pass costs more than the copy.
   */
  copiesBuffers(bytes: number): boolean {
    return this.isSoftware && bytes >= 8192;
  }

  /** Whether the device can run a convolution on the 3×3 kernel for software devices. */
  supportsConv3x3({ kernelHeight, kernelWidth, stride, padding, upsample, width, outWidth }: ConvSizes): boolean {
    if (!this.#usesSubgroupTiles || kernelHeight !== 3 || kernelWidth !== 3 || upsample === "any") return false;
    if (stride === 1) return padding.every((side) => side === 1) && width % 4 === 0;
    const [top, left] = padding;
    return stride === 2 && top === left && top <= 1 && width % 8 === 0 && 2 * outWidth === width;
  }

  /**
   * The kernel of a convolution. Small ones with few channels or with stride 2 take the general
   * one, because the 3×3 kernel would take longer to compile than it saves. Its arithmetic is f32.
   */
  convPath(sizes: ConvSizes, { allowF16Operands = false }: TileOptions = {}): "general" | "3x3" {
    const { batch, inChannels, outChannels, stride, outHeight, outWidth } = sizes;
    if (allowF16Operands && this.#info.arithmetic === "f16" || !this.supportsConv3x3(sizes)) return "general";
    const products = 9 * batch * inChannels * outChannels * outHeight * outWidth;
    const least = stride === 2 ? 2 ** 29 : inChannels < 8 ? 2 ** 26 : 0;
    return products >= least ? "3x3" : "general";
  }

  /**
   * Whether the exact product uses subgroups, the lanes of its workgroups, and the work of a thread
   * in the workgroup form.
   */
  get exactProduct(): ExactProductForm {
    const { deviceClass, subgroupSize } = this.#info;
    const LOOPED = this.isSoftware;
    if (this.#usesSubgroupTiles) {
      return { SUBGROUP: true, LANES: subgroupSize, THREADS_X: 1, ROWS: 1, COLUMNS: 1, LOOPED };
    }
    // Three integers accompany each sum, so the large tile takes some 230 registers.
    return deviceClass !== "software" && defaults[deviceClass] === large
      ? { SUBGROUP: false, LANES: 128, THREADS_X: 16, ROWS: 8, COLUMNS: 1, LOOPED } // 64 × 64
      : { SUBGROUP: false, LANES: 64, THREADS_X: 8, ROWS: 4, COLUMNS: 1, LOOPED }; // 32 × 32
  }

  /**
   * The tile of a product in the edit's solver. Small products get a small tile, because a large
   * one takes longer to compile than it saves.
   */
  realTile(rows: number, columns: number, depth: number): TileShape {
    if (!this.#usesSubgroupTiles) {
      return rows >= 256 && columns >= 256 ? workgroup(16, 8, 8, 1) : workgroup(8, 8, 4, 1); // 64 × 64, 32 × 32
    }
    const lanes = this.#info.subgroupSize;
    const tile = { strategy: "subgroup", lanes, threadsX: lanes } as const;
    if (rows * columns * depth < 6e6) return { ...tile, rows: 8, columns: 1 };
    return { ...tile, rows: rows > 8 ? 16 : 8, columns: columns >= 8 * lanes ? 2 : 1 };
  }
}

/** Whether a tile rounds its operands to f16. */
function roundsOperands({ strategy }: TileShape): boolean {
  return strategy === "matrix" || strategy === "half";
}

/** Approximate number of workgroups that occupies a GPU. */
const enoughWorkgroups = 128;
/** Minimum k of one part of a split product. */
const minimumDepth = 256;

/**
 * Largest head width of one-pass attention. An invocation holds the results of its queries in
 * registers, and wider heads would spill. On software devices the code of heads wider than 96 pays
 * only where it runs long.
 */
export const widestOnePass = 160;

/** Creates the policy of a device. @throws {TuningError} when the device cannot run its tuning */
export function policyFor(device: DeviceDescription): Policy {
  return new Policy(device);
}

/** The policy of an open device, created once. @throws {TuningError} as {@linkcode policyFor} */
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
    return lanes === subgroupSize ? undefined : `lanes must be its subgroup size, ${subgroupSize}: ${lanes}`;
  }
  if (lanes > limits.maxComputeInvocationsPerWorkgroup) {
    return `lanes must be at most ${limits.maxComputeInvocationsPerWorkgroup}: ${lanes}`;
  }
  if (strategy === "half" && info.arithmetic !== "f16") {
    return 'f16 arithmetic was not requested by the option arithmetic: "f16"';
  }
  if (strategy === "matrix") {
    if (!subgroupMatrix) {
      return "subgroup matrices are not supported, or were not requested by the option subgroupMatrices";
    }
    if (lanes % (subgroupMatrix.lanes * threadsX) !== 0) {
      return `lanes must be a multiple of ${subgroupMatrix.lanes} (subgroup size) · ${threadsX} (threadsX): ${lanes}`;
    }
  }
  const bytes = workgroupBytes({ strategy, lanes, threadsX, rows, columns }, subgroupMatrix);
  return bytes <= limits.maxComputeWorkgroupStorageSize
    ? undefined
    : `the tile must fit ${limits.maxComputeWorkgroupStorageSize} bytes of workgroup memory: ${bytes}`;
}

/** Bytes of workgroup memory of a workgroup or matrix tile. */
function workgroupBytes({ strategy, lanes, threadsX, rows, columns }: TileShape, matrix?: SubgroupMatrix): number {
  if (strategy === "half") return 2 * 16 * (rows * (lanes / threadsX) + 4 * columns * threadsX);
  // Blocks of depth 16, in f32, padded: see tile_workgroup.ts.
  if (strategy !== "matrix" || !matrix) {
    return 16 * 4 * (rows * (lanes / threadsX) + 2 + 4 * columns * (threadsX + 1) + 6);
  }
  const { m, n } = matrix, subgroups = lanes / matrix.lanes;
  const tileRows = rows * m * (subgroups / threadsX), tileColumns = columns * n * threadsX;
  return 2 * (tileRows * (matrixDepth + 8) + matrixDepth * (tileColumns + 8)) + 4 * subgroups * m * n;
}
