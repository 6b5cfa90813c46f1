import type { TileShape } from "../gemm/tile_shape.ts";
import { isSoftware, type PolicyDevice, usesSubgroupTiles } from "./device.ts";
import { hasManyRegisters, workgroup } from "./tile_defaults.ts";

/** How the exact product runs (exact_product.ts). Without SUBGROUP it is a workgroup tile. */
export interface ExactProductForm {
  /** Whether a workgroup is one subgroup, which shares A by broadcasts. */
  readonly SUBGROUP: boolean;
  /** Invocations per workgroup. */
  readonly LANES: number;
  /** Invocations side by side in a workgroup tile. */
  readonly THREADS_X: number;
  /** Rows per invocation of a workgroup tile. */
  readonly ROWS: number;
  /** vec4 of each row per invocation of a workgroup tile. */
  readonly COLUMNS: number;
  /** As in {@linkcode tileConstantTypes}. */
  readonly LOOPED: boolean;
}

/** Products of the edit's solver. */
export class SolverPolicy {
  readonly #device: PolicyDevice;

  /** @param device whose choices these are */
  constructor(device: PolicyDevice) {
    this.#device = device;
  }

  /** How the exact product runs. */
  get exactProduct(): ExactProductForm {
    const { subgroupSize } = this.#device.info;
    const LOOPED = isSoftware(this.#device);
    if (usesSubgroupTiles(this.#device)) {
      return { SUBGROUP: true, LANES: subgroupSize, THREADS_X: 1, ROWS: 1, COLUMNS: 1, LOOPED };
    }
    // Three integers accompany each sum, so the large tile takes some 230 registers.
    return hasManyRegisters(this.#device.info)
      ? { SUBGROUP: false, LANES: 128, THREADS_X: 16, ROWS: 8, COLUMNS: 1, LOOPED } // 64 × 64
      : { SUBGROUP: false, LANES: 64, THREADS_X: 8, ROWS: 4, COLUMNS: 1, LOOPED }; // 32 × 32
  }

  /**
   * The tile of a product in the edit's solver. Small products get a small tile, because a large
   * one takes longer to compile than it saves.
   */
  realTile(rows: number, columns: number, depth: number): TileShape {
    if (!usesSubgroupTiles(this.#device)) {
      // Tiles of 64 × 64 and 32 × 32 elements.
      return rows >= 256 && columns >= 256 ? workgroup(16, 8, 8, 1) : workgroup(8, 8, 4, 1);
    }
    const lanes = this.#device.info.subgroupSize;
    const tile = { strategy: "subgroup", lanes, threadsX: lanes } as const;
    if (rows * columns * depth < 6e6) return { ...tile, rows: 8, columns: 1 };
    return { ...tile, rows: rows > 8 ? 16 : 8, columns: columns >= 8 * lanes ? 2 : 1 };
  }
}
