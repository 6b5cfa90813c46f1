/**
 * A static model of a compiled kernel: which unit of the hardware is busy for how long, and what a
 * wave waits for. It ranks variants and predicts no times: caches, clocks, the cost of barriers and
 * bank conflicts are left out.
 *
 * @module
 */
import type { Architecture } from "./architecture.ts";
import { type Compiled, type Instruction, type Loop, loopsOf } from "./assembly.ts";
import { addTo, costOf, emptyLoad, f32PeakCycles, isFma, type Load, type Unit, units } from "./load.ts";

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
  /** The busiest unit. */
  readonly bound: Unit;
  /** Share of the fma peak if every wait is hidden. */
  readonly hidden: number;
  /** Share of the fma peak if only the waves that fit hide waits. */
  readonly reach: number;
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
  const load = emptyLoad();
  for (let i = from; i <= to; i++) {
    const times = within.filter(({ first, last }) => first <= i && i <= last).reduce((n, { trips }) => n * trips, 1);
    for (const each of blocks[i].instructions) addTo(load, each, wave, a, times);
  }
  const bound = units.reduce((most, unit) => load[unit] > load[most] ? unit : most);
  const alone = timeAlone(blocks.slice(from, to + 1), within.map((loop) => shifted(loop, -from)), wave, a);
  const fmaTime = Math.max(load[bound], alone / waves) / filled; // cycles of the SIMD per wave
  const inner = within.map(({ first, trips, isKnown }) => ` ${blocks[first].name}×${trips}${isKnown ? "" : "?"}`);
  return {
    load,
    loop: hot ? `${blocks[from].name}–${blocks[to].name}${inner.join("")}` : "whole kernel",
    waves,
    bound,
    hidden: filled * load.peakCycles / load[bound],
    reach: load.peakCycles / fmaTime,
    f32Peaks: load.fma * f32PeakCycles(wave, a) / fmaTime,
    loopBytes: sumOf(blocks.slice(from, to + 1).flatMap(({ instructions }) => instructions), ({ bytes }) => bytes),
    traffic: wave * (load.vectorLoadBytes + load.storeBytes) / load[bound] / a.memoryBytes,
  };
}

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

/** Turns of an inner loop that are walked through; further turns take as long as these. */
const walkedTurns = 64;

/** Cycles that a wave takes for some blocks when it is alone on its SIMD. */
function timeAlone(
  blocks: Compiled["blocks"],
  loops: readonly Loop[],
  wave: number,
  a: Architecture,
): number {
  const lone = new LoneWave(wave, a);
  const walk = (first: number, last: number, outer?: Loop) => {
    for (let i = first; i <= last; i++) {
      const inner = loops.filter((loop) => loop !== outer && loop.first === i && loop.last <= last)
        .sort((x, y) => y.last - x.last)[0];
      if (inner) {
        for (let turn = 0; turn < Math.min(inner.trips, walkedTurns); turn++) walk(inner.first, inner.last, inner);
        i = inner.last;
      } else for (const each of blocks[i].instructions) lone.execute(each);
    }
  };
  walk(0, blocks.length - 1);
  return lone.time;
}

/** A wave that executes in order and stops only at the code's waits for memory. */
class LoneWave {
  time = 0;
  readonly #pending: Record<"vector" | "shared" | "scalar", number[]> = { vector: [], shared: [], scalar: [] };

  constructor(readonly lanes: number, readonly a: Architecture) {}

  execute(instruction: Instruction): void {
    const { name, operands } = instruction;
    const { unit, cycles } = costOf(instruction, this.lanes, this.a);
    const { latency, sharing } = this.a;
    this.time += unit === "vector" || unit === "shared" ? 1 : cycles;
    if (/^(buffer|global|scratch)_load/.test(name)) {
      this.#pending.vector.push(this.time + latency.vector + cycles / sharing);
    } else if (/^ds_/.test(name)) this.#pending.shared.push(this.time + latency.shared + cycles / sharing);
    else if (/^s_(buffer_)?load/.test(name)) this.#pending.scalar.push(this.time + latency.scalar);
    else if (name === "s_waitcnt") {
      const vector = /vmcnt\((\d+)\)/.exec(operands), other = /lgkmcnt\((\d+)\)/.exec(operands);
      if (vector) this.#wait("vector", Number(vector[1]));
      if (other) { for (const kind of ["shared", "scalar"] as const) this.#wait(kind, Number(other[1])); }
    } else if (/^s_wait_/.test(name)) { // RDNA 4: combined counters have the loads in the upper byte
      const count = Number(/0x[0-9a-f]+|\d+/.exec(operands)?.[0] ?? 0);
      if (/load/.test(name)) this.#wait("vector", name.includes("dscnt") ? count >> 8 : count);
      if (/dscnt/.test(name)) this.#wait("shared", count & 0xff);
      if (/kmcnt/.test(name)) this.#wait("scalar", count);
    }
  }

  /** Waits until at most `left` accesses of a kind are pending. */
  #wait(kind: "vector" | "shared" | "scalar", left: number): void {
    const pending = this.#pending[kind];
    while (pending.length > left) this.time = Math.max(this.time, pending.shift()!);
  }
}
