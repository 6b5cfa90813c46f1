/**
 * AMD GPUs as the static model sees them.
 *
 * @module
 */

/** What the model knows of an architecture. Cycles are those of one SIMD. */
export interface Architecture {
  /** Lanes that a SIMD processes per cycle. */
  readonly lanes: number;
  /** Whether f32 instructions of waves of 64 are issued in pairs (RDNA 3). */
  readonly dualIssue: boolean;
  /**
   * SIMDs that share a path of 128 bytes per cycle to workgroup memory (LDS), and one of
   * `cacheBytes` per cycle to the vector cache.
   */
  readonly sharing: number;
  readonly cacheBytes: number;
  /** Bytes per cycle that memory supplies to one SIMD, on a typical card. */
  readonly memoryBytes: number;
  /** Vector registers of a SIMD for waves of 64, and the unit in which they are assigned. */
  readonly registers: number;
  readonly registerUnit: number;
  /** Most waves that a SIMD holds. */
  readonly slots: number;
  /** LDS of a group of SIMDs. */
  readonly lds: { readonly bytes: number; readonly simds: number };
  /**
   * Whether LDS reads of 16 bytes per lane are served in interleaved groups of lanes
   * (`laneGroups` in banks.ts).
   */
  readonly interleavedReads: boolean;
  /** Cycles of an f64 fma relative to those of an f32 fma. */
  readonly f64: number;
  /** The instruction cache. */
  readonly instructions: {
    readonly cacheBytes: number;
    /** SIMDs that share it. */
    readonly simds: number;
    /** Bytes per cycle that it supplies to one SIMD. */
    readonly hitBytes: number;
    /** Bytes per cycle that the L2 cache supplies to it. An assumption: nothing is published. */
    readonly missBytes: number;
  };
  /** Cycles until a load arrives: from the L2 cache or beyond, from LDS, from the scalar cache. */
  readonly latency: Readonly<Record<"vector" | "shared" | "scalar", number>>;
}

const rdna2: Architecture = {
  lanes: 32,
  dualIssue: false,
  sharing: 2,
  cacheBytes: 128,
  memoryBytes: 1.4,
  registers: 512,
  registerUnit: 8,
  slots: 16,
  lds: { bytes: 131072, simds: 4 },
  interleavedReads: false,
  f64: 16,
  // 32 KiB per workgroup processor. The rate is an assumption.
  instructions: { cacheBytes: 32768, simds: 4, hitBytes: 32, missBytes: 2 },
  latency: { vector: 400, shared: 60, scalar: 100 },
};
const rdna3: Architecture = {
  ...rdna2,
  dualIssue: true,
  memoryBytes: 2,
  registers: 768,
  registerUnit: 12,
  f64: 32,
};
const gcn: Architecture = {
  lanes: 16,
  dualIssue: false,
  sharing: 4,
  cacheBytes: 64,
  memoryBytes: 2.3,
  registers: 256,
  registerUnit: 4,
  slots: 10,
  lds: { bytes: 65536, simds: 4 },
  interleavedReads: true,
  f64: 2,
  // AMD's white paper on GCN: 32 KiB for up to 4 compute units, 32 bytes per cycle and compute
  // unit.
  instructions: { cacheBytes: 32768, simds: 12, hitBytes: 8, missBytes: 2 },
  latency: { vector: 500, shared: 80, scalar: 120 },
};

/** Architectures by RADV's name of a GPU: RDNA 1 to 4, GCN 5, CDNA 1 and 2. */
export const architectures: Readonly<Record<string, Architecture>> = {
  navi10: rdna2,
  navi21: rdna2,
  navi31: rdna3,
  gfx1201: rdna3,
  vega10: gcn,
  vega20: gcn,
  mi100: gcn,
  mi200: {
    ...gcn,
    registers: 512,
    registerUnit: 8,
    slots: 8,
    f64: 1,
    instructions: { ...gcn.instructions, simds: 8 },
  },
};
