/**
 * What a stretch of machine code asks of each unit of a SIMD.
 *
 * @module
 */
import type { Architecture } from "./architecture.ts";
import type { Instruction } from "./assembly.ts";

/** Units that work side by side: vector arithmetic, LDS, vector memory, scalar arithmetic. */
export const units = ["valu", "shared", "vector", "scalar"] as const;
/** One of {@linkcode units}. */
export type Unit = typeof units[number];

/** The sums over a stretch of code. Counts are instructions, of one wave. */
export interface Load extends Record<Unit, number> {
  instructions: number;
  /** Multiply-adds of a lane. */
  fma: number;
  fmaInstructions: number;
  /** Cycles of the fma instructions, a part of `valu`. */
  fmaCycles: number;
  /** Cycles that the multiply-adds would take at the peak for their type. */
  peakCycles: number;
  /** Vector instructions on integers, and those among them that clamp an index (v_min_u32). */
  integers: number;
  clamps: number;
  sharedReads: number;
  vectorLoads: number;
  /** Bytes per lane. */
  sharedReadBytes: number;
  vectorLoadBytes: number;
  storeBytes: number;
  /** Accesses of spilled registers. */
  scratch: number;
  waits: number;
  barriers: number;
  /** Cycles that bank conflicts add to those of LDS, where the addresses are known. */
  conflicts: number;
  /** Accesses of LDS, and those among them whose addresses are unknown. */
  sharedAccesses: number;
  unknownAccesses: number;
  /** Cycles of instruction fetch. */
  fetch: number;
}

/** A load of nothing. */
export const emptyLoad = (): Load => ({
  valu: 0,
  shared: 0,
  vector: 0,
  scalar: 0,
  instructions: 0,
  fma: 0,
  fmaInstructions: 0,
  fmaCycles: 0,
  peakCycles: 0,
  integers: 0,
  clamps: 0,
  sharedReads: 0,
  vectorLoads: 0,
  sharedReadBytes: 0,
  vectorLoadBytes: 0,
  storeBytes: 0,
  scratch: 0,
  waits: 0,
  barriers: 0,
  conflicts: 0,
  sharedAccesses: 0,
  unknownAccesses: 0,
  fetch: 0,
});

/** Multiply-adds of a lane per 16 × 16 × 16 matrix product of a wave. */
const matrixFma = (wave: number) => 16 ** 3 / wave;
/** Cycles of such a product. */
const matrixCycles = 32;

/** Whether an instruction multiplies and adds. `fma_mix` by 1.0 only converts from f16. */
export function isFma({ name, operands }: Pick<Instruction, "name" | "operands">): boolean {
  if (/^v_fma_mix/.test(name) && /, 1\.0, /.test(operands)) return false;
  return /^v_wmma_f32/.test(name) || /^v_(dual_)?dot2\w*_f32_f16/.test(name) ||
    /^v_(fma|fmac|mac|mad|fmaak|fmamk|madak|madmk|pk_fma|pk_mad|dual_fma)\w*_f(16|32|64)/.test(name);
}

/** Multiply-adds of a lane in an instruction for which {@linkcode isFma} holds. */
export function fmaOf({ name, operands }: Pick<Instruction, "name" | "operands">, wave: number): number {
  if (/^v_wmma/.test(name)) return matrixFma(wave);
  if (/^v_(pk_|dot2)/.test(name)) return 2;
  return `${name} ${operands}`.match(/v_dual_fma/g)?.length ?? 1;
}

/**
 * Cycles of an instruction's multiply-adds at the peak for their type: two packed f16 per lane;
 * f32 in pairs where the architecture issues pairs.
 */
function peakCycles(instruction: Instruction, wave: number, a: Architecture): number {
  const { name } = instruction, { cycles } = costOf(instruction, wave, a);
  if (/^v_(wmma|pk_)|_f64/.test(name)) return cycles;
  const isHalf = /^v_(fma|fmac|mad|mac|fmaak|fmamk)\w*_f16/.test(name) && !/^v_fma_mix/.test(name);
  return fmaOf(instruction, wave) * (isHalf || /^v_dot2/.test(name) ? wave / a.lanes / 2 : f32PeakCycles(wave, a));
}

/** Cycles of one f32 multiply-add of each lane at the peak. */
export const f32PeakCycles = (wave: number, a: Architecture): number => wave / a.lanes / (a.dualIssue ? 2 : 1);

const isInteger = (name: string) =>
  /^v_/.test(name) && !/_f(16|32|64)/.test(name) &&
  !/^v_(mov|dual_mov|cndmask|cvt|readlane|readfirstlane|writelane|permlane|wmma)/.test(name);

/** Addresses per lane of an access. */
export const accessesPerInstruction = (name: string): number =>
  /(read2|write2|load_2addr|store_2addr)/.test(name) ? 2 : 1;

/** Bytes that an access moves per lane. */
export function bytesOf(name: string): number {
  const accesses = accessesPerInstruction(name);
  const dwords = /dwordx(\d)/.exec(name), bits = /_b(\d+)/.exec(name);
  if (dwords) return accesses * 4 * Number(dwords[1]);
  if (bits) return accesses * Number(bits[1]) / 8;
  if (/(byte|_u8|_i8)/.test(name)) return 1;
  if (/(short|_u16|_i16|d16)/.test(name)) return 2;
  return accesses * 4;
}

/** The unit that executes an instruction, and for how many cycles of a SIMD. */
export function costOf(
  { name }: Pick<Instruction, "name">,
  wave: number,
  a: Architecture,
): { unit: Unit | "none"; cycles: number } {
  if (/^v_/.test(name)) return { unit: "valu", cycles: vectorCycles(name, wave, a) };
  if (/^ds_/.test(name)) {
    return { unit: "shared", cycles: Math.max(wave / 32, wave * bytesOf(name) / 128) * a.sharing };
  }
  if (/^(buffer|global|flat|scratch|image)_/.test(name)) {
    const addresses = wave / Math.min(a.lanes, 32);
    return { unit: "vector", cycles: Math.max(wave * bytesOf(name) / a.cacheBytes, addresses) * a.sharing };
  }
  if (/^s_(waitcnt|wait_|delay_alu|clause|nop|barrier|inst_prefetch|code_end|set_inst)/.test(name)) {
    return { unit: "none", cycles: 1 };
  }
  return { unit: "scalar", cycles: a.lanes === 16 ? 4 : 1 };
}

function vectorCycles(name: string, wave: number, a: Architecture): number {
  const base = wave / a.lanes;
  if (/^v_(mul_lo|mul_hi|mad_u64|mad_i64|exp|log|rcp|rsq|sqrt|sin|cos)_/.test(name)) return 4 * base;
  if (/^v_wmma/.test(name)) return matrixCycles;
  if (/_f64/.test(name)) return a.f64 * base;
  const isDual = a.dualIssue && wave === 64 &&
    /^v_(fma|fmac|fmaak|fmamk|mul|add|sub|subrev|max|min|mov|cndmask)_(f32|b32|num_f32)/.test(name);
  return isDual ? base / 2 : base;
}

/**
 * Adds `times` executions of an instruction to a load.
 *
 * @param conflicts cycles of an access of LDS that its bank conflicts take; undefined where unknown
 */
export function addTo(
  load: Load,
  instruction: Instruction,
  wave: number,
  { a, times, conflicts }: { a: Architecture; times: number; conflicts: number | undefined },
): void {
  const { name } = instruction;
  const { unit, cycles } = costOf(instruction, wave, a);
  load.instructions += times;
  if (unit !== "none") load[unit] += times * cycles;
  load.fetch += times * instruction.bytes / a.instructions.hitBytes;
  if (unit === "shared") {
    load.sharedAccesses += times;
    if (conflicts === undefined) load.unknownAccesses += times;
    else load.conflicts += times * conflicts;
  }
  if (isFma(instruction)) {
    load.fma += times * fmaOf(instruction, wave);
    load.fmaInstructions += times;
    load.fmaCycles += times * cycles;
    load.peakCycles += times * peakCycles(instruction, wave, a);
  } else if (isInteger(name)) load.integers += times;
  if (/^v_min_u32/.test(name)) load.clamps += times;
  if (/^ds_(read|load)/.test(name)) {
    load.sharedReads += times;
    load.sharedReadBytes += times * bytesOf(name);
  }
  if (/^(buffer|global)_load/.test(name)) {
    load.vectorLoads += times;
    load.vectorLoadBytes += times * bytesOf(name);
  }
  if (/^(buffer|global)_store/.test(name)) load.storeBytes += times * bytesOf(name);
  if (/^scratch_/.test(name)) load.scratch += times;
  if (/^s_wait(cnt|_load|_ds|_km)/.test(name)) load.waits += times;
  if (/^s_barrier/.test(name)) load.barriers += times;
}
