/**
 * The addresses that a wave's lanes access in workgroup memory (LDS), as far as the code tells
 * them.
 *
 * @module
 */
import type { Block, Instruction } from "./assembly.ts";
import { execute, operandsOf } from "./interpreter.ts";
import { byLane, constant, type Known, type Mask } from "./lanes.ts";
import { Registers } from "./registers.ts";

/** One access of LDS by one wave. */
export interface Access {
  /** Bytes, relative to any multiple of 4; undefined where the code does not tell them. */
  readonly addresses: Known;
  /** Lanes that take part; undefined where the code does not tell them. */
  readonly lanes: Mask;
}

/** Whether an instruction accesses LDS. */
const isSharedAccess = ({ name }: Pick<Instruction, "name">): boolean => /^ds_(read|load|write|store)/.test(name);

/** The blocks that may follow each block. */
function successorsOf(blocks: readonly Block[]): number[][] {
  const indexOf = new Map(blocks.map(({ name }, index) => [name, index]));
  return blocks.map(({ instructions }, index) => {
    const targets = instructions.filter(({ name }) => /^s_c?branch/.test(name))
      .map(({ operands }) => indexOf.get(operands.trim())).filter((target) => target !== undefined);
    const last = instructions.at(-1)?.name;
    const fallsThrough = last !== "s_branch" && last !== "s_endpgm" && index + 1 < blocks.length;
    return fallsThrough ? [...targets, index + 1] : targets;
  });
}

/**
 * The registers with which RADV starts a wave: the index of each thread in v0, and the index of the
 * wave in a scalar register, in bits 6 to 11 and, from RDNA 2 on, 20 to 24. The code takes it out
 * of there.
 */
function atStart(blocks: readonly Block[], wave: number, first: number): Registers {
  const registers = new Registers(wave), index = Math.floor(first / wave);
  registers.write("v0", byLane(wave, (lane) => first + lane));
  const isIndex = /^s\d+, (s\d+), (0xfc0|0x50014|0x60006)$/;
  const from = blocks[0].instructions.map(({ operands }) => isIndex.exec(operands)?.[1]).find((name) => name);
  if (from) registers.write(from, constant(wave, index << 6 | index << 20));
  return registers;
}

/**
 * The accesses of one wave of a workgroup of one dimension. Registers are followed along all
 * branches until nothing changes. Where several turns or branches lead to one access, only what
 * they have in common is known.
 *
 * @param first index of the wave's first thread in its workgroup
 */
export function accessesOf(blocks: readonly Block[], wave: number, first: number): Map<Instruction, Access> {
  const successors = successorsOf(blocks);
  const entries: (Registers | undefined)[] = blocks.map(() => undefined);
  entries[0] = atStart(blocks, wave, first);
  const open = new Set([0]);
  for (const index of open) { // a Set visits what is added while it is walked
    open.delete(index);
    const registers = new Registers(wave, entries[index]);
    for (const each of blocks[index].instructions) execute(each, registers);
    for (const next of successors[index]) {
      const entry = entries[next];
      if (entry && !entry.meet(registers)) continue;
      entries[next] ??= new Registers(wave, registers);
      open.add(next);
    }
  }
  const accesses = new Map<Instruction, Access>();
  blocks.forEach(({ instructions }, index) => {
    if (!entries[index]) return;
    const registers = new Registers(wave, entries[index]);
    for (const each of instructions) {
      if (isSharedAccess(each)) {
        const [first, second] = operandsOf(each);
        const address = /^ds_(read|load)/.test(each.name) ? second : first;
        accesses.set(each, { addresses: registers.value(address), lanes: registers.mask("exec") });
      }
      execute(each, registers);
    }
  });
  return accesses;
}
