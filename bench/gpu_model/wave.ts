/**
 * How long one wave takes for a stretch of code, and what its workgroup takes with barriers.
 *
 * @module
 */
import type { Architecture } from "./architecture.ts";
import type { Block, Instruction, Loop } from "./assembly.ts";
import { costOf, type Unit, units } from "./load.ts";

/** What a wave shares with the other waves of its workgroup. */
export interface Group {
  /** Additional cycles of an access of LDS, for its bank conflicts. */
  readonly conflicts: (access: Instruction) => number;
  /** Cycles of a unit for the whole workgroup, per cycle for one of its waves. */
  readonly share: (unit: Unit) => number;
}

/** Turns of an inner loop that are walked through; further turns take as long as these. */
const walkedTurns = 64;

/**
 * Cycles that a wave takes for some blocks when it is alone on its SIMD.
 *
 * @param loops inner loops of the blocks
 */
export function timeAlone(blocks: readonly Block[], loops: readonly Loop[], wave: number, a: Architecture): number {
  const walker = new Walker(wave, a);
  walk(walker, blocks, loops);
  return walker.time;
}

/**
 * Cycles that a workgroup, alone on its SIMDs, takes for one turn of a loop that turns often. At a
 * barrier, all of its waves have done their part: each unit has served them one after another.
 */
export function turnOfGroup(
  blocks: readonly Block[],
  loops: readonly Loop[],
  wave: number,
  { a, ...group }: Group & { a: Architecture },
): number {
  const walker = new Walker(wave, a, group);
  walk(walker, blocks, loops);
  const first = walker.time;
  walk(walker, blocks, loops);
  walk(walker, blocks, loops);
  return (walker.time - first) / 2;
}

function walk(walker: Walker, blocks: readonly Block[], loops: readonly Loop[]): void {
  const stretch = (first: number, last: number, outer?: Loop) => {
    for (let i = first; i <= last; i++) {
      const inner = loops.filter((loop) => loop !== outer && loop.first === i && loop.last <= last)
        .sort((x, y) => y.last - x.last)[0];
      if (inner) {
        for (let turn = 0; turn < Math.min(inner.trips, walkedTurns); turn++) stretch(inner.first, inner.last, inner);
        i = inner.last;
      } else for (const each of blocks[i].instructions) walker.execute(each);
    }
  };
  stretch(0, blocks.length - 1);
}

const nothing = (): Record<Unit, number> => ({ valu: 0, shared: 0, vector: 0, scalar: 0 });

/** A wave that executes in order and stops only at the code's waits for memory, and at barriers. */
class Walker {
  time = 0;
  readonly #pending: Record<"vector" | "shared" | "scalar", number[]> = { vector: [], shared: [], scalar: [] };
  /** Since the last barrier: the workgroup's cycles of each unit, and the time at that barrier. */
  #work = nothing();
  #phase = 0;

  /** @param group the wave's workgroup; without one, barriers cost nothing */
  constructor(readonly lanes: number, readonly a: Architecture, readonly group?: Group) {}

  execute(instruction: Instruction): void {
    const { name, operands } = instruction;
    const { unit, cycles: own } = costOf(instruction, this.lanes, this.a);
    const { latency, sharing } = this.a;
    const cycles = own + (unit === "shared" && this.group ? this.group.conflicts(instruction) : 0);
    if (unit !== "none" && this.group) this.#work[unit] += cycles * this.group.share(unit);
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
    } else if (/^s_barrier(_wait)?$/.test(name)) this.#meet();
  }

  /** Waits until at most `left` accesses of a kind are pending. */
  #wait(kind: "vector" | "shared" | "scalar", left: number): void {
    const pending = this.#pending[kind];
    while (pending.length > left) this.time = Math.max(this.time, pending.shift()!);
  }

  /** Waits for the workgroup's other waves. */
  #meet(): void {
    this.time = Math.max(this.time, this.#phase + Math.max(...units.map((unit) => this.#work[unit])));
    this.#phase = this.time;
    this.#work = nothing();
  }
}
