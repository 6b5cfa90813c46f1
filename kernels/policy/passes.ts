import { isSoftware, type PolicyDevice } from "./device.ts";

/** Workgroups of elementwise kernels, copies, reductions and norms. */
export class PassPolicy {
  readonly #device: PolicyDevice;

  /** @param device whose choices these are */
  constructor(device: PolicyDevice) {
    this.#device = device;
  }

  /**
   * Workgroups of elementwise kernels: LANES_X × LANES_Y lanes, and TURNS columns per lane. Columns
   * count accesses. See {@linkcode elementwiseWgsl}.
   */
  elementwise(rows: number, columns: number): { LANES_X: number; LANES_Y: number; TURNS: number } {
    if (isSoftware(this.#device)) return { LANES_X: 8, LANES_Y: 1, TURNS: 16 };
    // Narrow rows share a workgroup.
    const across = rows === 1 ? 64 : Math.min(64, Math.max(4, 2 ** Math.ceil(Math.log2(columns))));
    return { LANES_X: across, LANES_Y: 64 / across, TURNS: rows === 1 ? 1 : 4 };
  }

  /**
   * How a workgroup sums over a row: as one subgroup where all subgroups have the same size, else
   * as 64 lanes (8 on software devices) through workgroup memory.
   */
  get reduction(): { readonly LANES: number; readonly SUBGROUP: boolean } {
    const { subgroupSize } = this.#device.info;
    if (subgroupSize > 0) return { LANES: subgroupSize, SUBGROUP: true };
    return { LANES: isSoftware(this.#device) ? 8 : 64, SUBGROUP: false };
  }

  /**
   * Number of workgroups that a group norm aims at, and the fewest accesses of a workgroup. A GPU
   * needs thousands of workgroups; on software devices each workgroup has a fixed cost.
   */
  get groupNorm(): { readonly workgroups: number; readonly leastAccesses: number } {
    const { LANES } = this.reduction;
    return isSoftware(this.#device)
      ? { workgroups: 64, leastAccesses: 64 * LANES }
      : { workgroups: 8192, leastAccesses: 8 * LANES };
  }

  /** Rows per workgroup of layer norm. */
  layerNormRows(rows: number): number {
    return isSoftware(this.#device) && rows >= 64 ? 4 : 1;
  }

  /**
   * Whether rows of `bytes` bytes are copied by buffer copies instead of a kernel. Software devices
   * copy buffers at memory speed. On GPUs, a copy would end the compute pass, which costs more than
   * it saves.
   */
  copiesBuffers(bytes: number): boolean {
    return isSoftware(this.#device) && bytes >= 8192;
  }
}
