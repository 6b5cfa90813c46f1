import type { TileShape } from "../gemm/tile_shape.ts";
import { isSoftware, type PolicyDevice, usesSubgroupTiles } from "./device.ts";
import { hasManyRegisters, workgroup } from "./tile_defaults.ts";

/** How the exact product runs; see {@linkcode SolverPolicy.exactProduct}. */
export interface ExactProductForm {
  readonly SUBGROUP: boolean;
  readonly LANES: number;
  readonly THREADS_X: number;
  readonly ROWS: number;
  readonly COLUMNS: number;
  readonly LOOPED: boolean;
}

/** Products of the edit's solver. */
export class SolverPolicy {
  readonly #device: PolicyDevice;

  /** @param device whose choices these are */
  constructor(device: PolicyDevice) {
    this.#device = device;
  }

  /**
   * Whether the exact product uses subgroups, the lanes of its workgroups, and the work of a thread
   * in the workgroup form.
   */
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
