import { roundsOperands } from "../gemm/tile_support.ts";
import { asSubgroupTile, type TileShape } from "../gemm/tile_shape.ts";
import { productKey, type ProductVariant, type Tiles } from "../tuning.ts";
import { stationaryDepths } from "../gemm/tile_stationary.ts";
import { isLarge, isSoftware, type PolicyDevice } from "./device.ts";
import { enoughWorkgroups } from "./occupancy.ts";
import { defaultTiles, mostStationaryRows, tileKind } from "./tile_defaults.ts";

/** Options of {@linkcode ProductPolicy.tileFor}. */
export interface TileOptions {
  /** The sums' length, which decides how deep a block of a stationary tile is. Default: 0. */
  readonly k?: number;
  /** Whether the row length of the result is a multiple of 4. Default: true. */
  readonly vec4?: boolean;
  /** Whether all sizes and strides are multiples of 8. Default: false. */
  readonly isVec8?: boolean;
  /** Whether the result can hold sums over a part of k without rounding them. Default: true. */
  readonly canHoldSums?: boolean;
  /** Whether B is gathered element by element, as a convolution's patches are. Default: false. */
  readonly isGathered?: boolean;
  /**
   * Whether operands may be rounded to f16, which subgroup matrices and f16 arithmetic require.
   * Default: false.
   */
  readonly allowF16Operands?: boolean;
}

/** Least k of one part of a split product. */
const leastPart = 256;

/**
 * How deep the blocks of B of a stationary tile are: the depth for which all blocks take the least
 * time. A block takes the time of its products, also of those beyond the end of k, and that of
 * loading and storing the sums, which is the same at every depth. See "Deep blocks" in
 * docs/tuning.md.
 *
 * The code of deeper blocks compiles longer. So only products that one block of the middle depth
 * covers use that, and only large ones the largest.
 */
function stationaryDepthFor(lanes: number, m: number, n: number, k: number): number {
  const { least, middle, most } = stationaryDepths(lanes);
  const moveSums = least / 2; // takes as long as the products of so many k: measured
  const time = (depth: number) => Math.ceil(k / depth) * (depth + moveSums);
  const depths = [least, ...(k <= middle ? [middle] : []), ...(isLarge(m, n, k) ? [most] : [])];
  return depths.reduce((best, depth) => time(depth) < time(best) ? depth : best);
}

/** Tiles and splits of matrix products and of the general convolution. */
export class ProductPolicy {
  readonly #device: PolicyDevice;

  /** @param device whose choices these are */
  constructor(device: PolicyDevice) {
    this.#device = device;
  }

  /** The tile of each kind of product: the tuned one, else the default of the device class. */
  tiles({ allowF16Operands = false }: { readonly allowF16Operands?: boolean } = {}): Required<Tiles> {
    const { attention: _, products: __, ...tiles } = this.#device.tuned;
    const own = Object.entries<TileShape>(tiles).filter(([, tile]) => allowF16Operands || !roundsOperands(tile));
    return {
      ...defaultTiles(this.#device.info, allowF16Operands),
      ...Object.fromEntries(own),
    };
  }

  /**
   * The tile for an m × n result.
   *
   * On software devices, a stationary tile gets the depth of its blocks by k: see
   * {@linkcode stationaryDepthFor}. A subgroup tile replaces it where it does not suit:
   *
   * - operands are no multiples of 8
   * - the result cannot hold sums, or is at most half as wide as the tile
   * - the result has 3 to 8 rows, whose sums fit variables: docs/tuning.md
   *
   * Of subgroup tiles, a result that cannot be stored as vec4 gets a small one, because each
   * element is then a separate access. A narrow result gets one of half or a quarter of the columns
   * where that is wide enough. A gathered B gets one column, because a second column would not save
   * any access.
   */
  tileFor(m: number, n: number, options: TileOptions = {}): TileShape {
    const { k = 0, vec4 = true, isVec8 = false, canHoldSums = true, isGathered = false, allowF16Operands } = options;
    let shape = this.tiles({ allowF16Operands })[tileKind(m, n)];
    if (shape.strategy === "stationary") {
      const hasFewRows = m > 2 && m <= 8;
      if (isVec8 && canHoldSums && n > 4 * shape.lanes && !hasFewRows) {
        return { ...shape, depth: shape.depth ?? stationaryDepthFor(shape.lanes, m, n, k) };
      }
      shape = asSubgroupTile(shape, m);
    }
    if (shape.strategy !== "subgroup") return shape;
    if (!vec4) return { ...shape, rows: 8, columns: 1 };
    if (isGathered) return { ...shape, columns: 1 };
    let { columns } = shape;
    while (columns % 2 === 0 && n <= columns / 2 * 4 * shape.lanes) columns /= 2;
    return { ...shape, columns };
  }

  /**
   * The tuned tile and split of an m × n × k product; undefined where this shape was not tuned.
   * `variant` is "plain" by default.
   */
  tunedProduct(
    m: number,
    n: number,
    k: number,
    { allowF16Operands = false, variant }: {
      readonly allowF16Operands?: boolean;
      readonly variant?: ProductVariant;
    } = {},
  ): { readonly tile: TileShape; readonly splits: number } | undefined {
    const { products = {} } = this.#device.tuned, key = productKey(m, n, k, variant);
    if (!Object.hasOwn(products, key)) return undefined;
    const { splits, ...tile } = products[key];
    if (roundsOperands(tile) && !allowF16Operands || k % splits !== 0) return undefined;
    return { tile, splits };
  }

  /**
   * Rows of a workgroup that keeps a block of B, or of inputs: as many as allowed, and fewer where
   * processors would not get equal shares of the workgroups. With fewer than 32, loading the block
   * would take longer than multiplying.
   *
   * @param m rows of the result
   * @param across number of workgroups that share rows of the result
   * @param most the most rows
   */
  stationaryRows(m: number, across: number, most: number = mostStationaryRows): number {
    const { processors } = this.#device.info;
    const isEven = (parts: number) => {
      const workgroups = parts * across;
      return workgroups % processors === 0 || workgroups >= 4 * processors;
    };
    const mostParts = Math.floor(m / 32);
    let parts = Math.ceil(m / most);
    while (parts < mostParts && !isEven(parts)) parts++;
    return Math.ceil(m / parts);
  }

  /**
   * Number of parts into which k is split for a result of `workgroups` tiles: more than one where
   * the tiles alone would not occupy a GPU.
   */
  splitsFor(workgroups: number, k: number): number {
    if (isSoftware(this.#device)) return 1;
    let splits = 1;
    while (
      splits < 8 && workgroups * splits * 2 <= enoughWorkgroups && k % (splits * 16) === 0 &&
      k / (splits * 2) >= leastPart
    ) splits *= 2;
    return splits;
  }
}
