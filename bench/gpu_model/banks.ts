/**
 * Bank conflicts of workgroup memory (LDS): 32 banks of 4 bytes, each of which serves one address
 * per cycle. Lanes that access the same 4 bytes share them.
 *
 * @module
 */
import { type Access, accessesOf } from "./accesses.ts";
import type { Architecture } from "./architecture.ts";
import type { Block, Instruction } from "./assembly.ts";
import { accessesPerInstruction, bytesOf } from "./load.ts";

const banks = 32;

/**
 * Lanes that access LDS together, as many as move 128 bytes: 32 lanes of 4 bytes, 16 of 8 or 8 of
 * 16, side by side. GCN and CDNA read 16 bytes per lane by other groups of 8: 0…3 with 20…23, 4…7
 * with 16…19, and 8 lanes further likewise.
 *
 * Source: AMD, "Avoiding LDS Bank Conflicts on AMD GPUs Using CK-Tile Framework", 2025, of CDNA.
 * Nothing is published of RDNA, whose groups are taken to lie side by side.
 */
export function laneGroups(wave: number, bytes: number, isRead: boolean, a: Architecture): number[][] {
  const size = bytes > 8 ? 8 : bytes > 4 ? 16 : 32;
  const run = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
  return run(0, wave / size).map((i) => {
    if (size !== 8 || !isRead || !a.interleavedReads) return run(i * size, size);
    const start = i >> 2 << 5, quad = i & 3;
    return [...run(start + 4 * quad, 4), ...run(start + 16 + 4 * (quad ^ 1), 4)];
  });
}

/**
 * Cycles that an access takes beyond those without conflicts, or undefined where the addresses are
 * not known. Lanes that may be off count as on.
 */
function conflictCycles(
  { addresses, lanes }: Access,
  { bytes, isRead }: { bytes: number; isRead: boolean },
  a: Architecture,
): number | undefined {
  if (!addresses) return undefined;
  const { values, known } = addresses, isOn = (lane: number) => !lanes || lanes[lane] === 1;
  if (values.some((_, lane) => isOn(lane) && !known[lane])) return undefined;
  let extra = 0;
  for (const group of laneGroups(values.length, bytes, isRead, a)) {
    const served = Array.from({ length: banks }, () => new Set<number>());
    for (const lane of group.filter(isOn)) {
      for (let byte = 0; byte < bytes; byte += 4) {
        const word = (values[lane] + byte) >> 2;
        served[word & (banks - 1)].add(word);
      }
    }
    extra += Math.max(1, ...served.map(({ size }) => size)) - 1;
  }
  return extra;
}

/**
 * Bank conflicts of each instruction that accesses LDS: the mean over the waves of a workgroup, in
 * cycles of the LDS, or undefined where a wave's addresses are not known.
 */
export function bankConflicts(
  blocks: readonly Block[],
  { wave, threads }: { wave: number; threads: number },
  a: Architecture,
): Map<Instruction, number | undefined> {
  const sums = new Map<Instruction, number | undefined>(), waves = Math.ceil(threads / wave);
  for (let index = 0; index < waves; index++) {
    for (const [instruction, access] of accessesOf(blocks, wave, index * wave)) {
      const { name } = instruction, count = accessesPerInstruction(name);
      const kind = { bytes: bytesOf(name) / count, isRead: /^ds_(read|load)/.test(name) };
      const cycles = conflictCycles(access, kind, a);
      const sum = sums.has(instruction) ? sums.get(instruction) : 0;
      sums.set(instruction, sum === undefined || cycles === undefined ? undefined : sum + cycles * count / waves);
    }
  }
  return sums;
}
