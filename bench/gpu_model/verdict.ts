/**
 * A static model of a compiled kernel: which unit of the hardware is busy for how long, and what a
 * wave waits for. It ranks variants and predicts no times: data caches and clocks are left out.
 *
 * @module
 */
import type { Architecture } from "./architecture.ts";
import { type Compiled, type Instruction, type Loop, loopsOf } from "./assembly.ts";
import { bankConflicts } from "./banks.ts";
import { addTo, emptyLoad, f32PeakCycles, isFma, type Load, type Unit, units } from "./load.ts";
import { timeAlone, turnOfGroup } from "./wave.ts";

/** What may bound a kernel. */
export type Limit = Unit | "fetch" | "waits";

/** What the model says of a kernel. */
export interface Verdict {
  /**
   * One turn of the loop that holds most of the arithmetic, inner loops included; the whole kernel
   * where no loop has any.
   */
  readonly load: Load;
  /** That loop's blocks, and the inner loops' turns. */
  readonly loop: string;
  /** Waves per SIMD, as registers and LDS allow. */
  readonly waves: number;
  /** Workgroups that reside together on the SIMDs that share LDS. */
  readonly groups: number;
  /** The busiest unit. */
  readonly bound: Unit;
  /** Share of the fma peak if every wait is hidden. */
  readonly hidden: number;
  /**
   * Share of the fma peak if only the waves that fit hide waits, without bank conflicts, barriers
   * and instruction fetch.
   */
  readonly reach: number;
  /** The same with bank conflicts, barriers and instruction fetch. */
  readonly sustained: number;
  /** What bounds `sustained`: a unit, instruction fetch, or waits for memory and at barriers. */
  readonly limit: Limit;
  /**
   * The same, as a multiple of the peak of f32 fma. It differs from `reach` where multiply-adds are
   * f16, whose peak is another.
   */
  readonly f32Peaks: number;
  /** Bytes of the loop's code. The instruction cache holds 32 KiB. */
  readonly loopBytes: number;
  /**
   * Bytes asked of memory per cycle of the busiest unit, as a multiple of what memory supplies.
   * Caches are ignored: far above 1, memory may decide, and the shares mean little.
   */
  readonly traffic: number;
}

/**
 * Judges a compiled kernel.
 *
 * @param threads invocations per workgroup
 */
export function judge({ statistics, blocks }: Compiled, a: Architecture, threads: number): Verdict {
  const wave = statistics["Subgroup size"], waves = wavesPerSimd(statistics, threads, a);
  const filled = threads / (Math.ceil(threads / wave) * wave); // a workgroup's last wave may be partial
  const loops = loopsOf(blocks);
  const hot = hottestLoop({ statistics, blocks }, loops);
  const [from, to] = hot ? [hot.first, hot.last] : [0, blocks.length - 1];
  const within = loops.filter((loop) => loop !== hot && from <= loop.first && loop.last <= to);
  const conflicts = bankConflicts(blocks, { wave, threads }, a);
  const conflictsOf = (access: Instruction) => {
    const cycles = conflicts.get(access);
    return cycles === undefined ? undefined : cycles * a.sharing;
  };
  const load = emptyLoad();
  for (let i = from; i <= to; i++) {
    const times = within.filter(({ first, last }) => first <= i && i <= last).reduce((n, { trips }) => n * trips, 1);
    for (const each of blocks[i].instructions) addTo(load, each, wave, { a, times, conflicts: conflictsOf(each) });
  }
  const groupWaves = Math.ceil(threads / wave), groups = Math.max(1, Math.floor(waves * a.lds.simds / groupWaves));
  if (hot) {
    load.fetch += missedBytes(blocks, [hot, ...within], a) / a.instructions.missBytes * a.instructions.simds /
      groupWaves;
  }
  const bound = units.reduce((most, unit) => load[unit] > load[most] ? unit : most);
  const [code, inner] = [blocks.slice(from, to + 1), within.map((loop) => shifted(loop, -from))];
  const fmaTime = Math.max(load[bound], timeAlone(code, inner, wave, a) / waves) / filled; // cycles of the SIMD per wave
  const turn = turnOfGroup(code, inner, wave, {
    a,
    conflicts: (access) => conflictsOf(access) ?? 0,
    share: (unit) => groupShare(unit, groupWaves, a),
  });
  const times: Record<Limit, number> = {
    valu: load.valu,
    shared: load.shared + load.conflicts,
    vector: load.vector,
    scalar: load.scalar,
    fetch: load.fetch,
    waits: turn * a.lds.simds / (groups * groupWaves),
  };
  const limit = (Object.keys(times) as Limit[]).reduce((most, each) => times[each] > times[most] ? each : most);
  const turns = within.map(({ first, trips, isKnown }) => ` ${blocks[first].name}×${trips}${isKnown ? "" : "?"}`);
  return {
    load,
    loop: hot ? `${blocks[from].name}–${blocks[to].name}${turns.join("")}` : "whole kernel",
    waves,
    groups,
    bound,
    hidden: filled * load.peakCycles / load[bound],
    reach: load.peakCycles / fmaTime,
    sustained: filled * load.peakCycles / times[limit],
    limit,
    f32Peaks: load.fma * f32PeakCycles(wave, a) / fmaTime,
    loopBytes: codeBytes(code),
    traffic: wave * (load.vectorLoadBytes + load.storeBytes) / load[bound] / a.memoryBytes,
  };
}

/**
 * Cycles of a unit for a whole workgroup, per cycle of a SIMD for one of its waves. The waves are
 * spread evenly over the SIMDs that share LDS. Units that SIMDs share take the share of one of them
 * for a wave.
 */
function groupShare(unit: Unit, groupWaves: number, a: Architecture): number {
  const sharing = unit === "shared" || unit === "vector" ? a.sharing : 1;
  return Math.max(1, groupWaves * sharing / a.lds.simds) / sharing;
}

/**
 * Bytes of code that one turn of the first loop fetches from beyond the instruction cache. A loop
 * that the cache does not hold evicts its own beginning, and misses all of its code in every turn.
 */
function missedBytes(blocks: Compiled["blocks"], loops: readonly Loop[], a: Architecture): number {
  const outer = loops[0];
  const exceeding = loops.filter(({ first, last }) =>
    codeBytes(blocks.slice(first, last + 1)) > a.instructions.cacheBytes
  );
  if (!exceeding.includes(outer)) return 0;
  const timesOf = (at: number) =>
    exceeding.filter((loop) => loop !== outer && loop.first <= at && at <= loop.last)
      .reduce((n, { trips }) => n * trips, 1);
  const within = blocks.slice(outer.first, outer.last + 1);
  return within.reduce((sum, block, i) => sum + timesOf(outer.first + i) * codeBytes([block]), 0);
}

/** Bytes of the blocks' code. */
const codeBytes = (blocks: Compiled["blocks"]) =>
  sumOf(blocks.flatMap(({ instructions }) => instructions), ({ bytes }) => bytes);

/** The sum of `value` over `items`. */
const sumOf = <T>(items: readonly T[], value: (item: T) => number) => items.reduce((sum, item) => sum + value(item), 0);

/**
 * Waves that a SIMD holds. RADV's own "Subgroups per SIMD" counts twice as many waves of 64 on the
 * null device.
 */
function wavesPerSimd(statistics: Readonly<Record<string, number>>, threads: number, a: Architecture): number {
  const wave = statistics["Subgroup size"], perWave64 = 64 / wave, unit = a.registerUnit * perWave64;
  const registers = Math.max(unit, Math.ceil(statistics["VGPRs"] / unit) * unit);
  const bytes = statistics["LDS size"], groupWaves = Math.ceil(threads / wave);
  const groups = bytes > 0 ? Math.floor(a.lds.bytes / bytes) : Infinity;
  return Math.min(a.slots, Math.floor(a.registers * perWave64 / registers), groups * groupWaves / a.lds.simds);
}

/**
 * The smallest loop that holds most of the arithmetic's text, extended outwards for as long as the
 * turns of the inner loop are known.
 */
function hottestLoop({ blocks }: Compiled, loops: readonly Loop[]): Loop | undefined {
  const fmaText = ({ first, last }: Loop) =>
    blocks.slice(first, last + 1).flatMap(({ instructions }) => instructions).filter(isFma).length;
  const most = Math.max(4, ...loops.map(fmaText));
  let hot = loops.find((loop) => fmaText(loop) >= 0.6 * most);
  while (hot?.isKnown) {
    const { first, last } = hot;
    const parent: Loop | undefined = loops.find((other) => other !== hot && other.first <= first && last <= other.last);
    if (!parent) break;
    hot = parent;
  }
  return hot;
}

const shifted = (loop: Loop, by: number): Loop => ({ ...loop, first: loop.first + by, last: loop.last + by });
