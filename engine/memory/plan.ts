/** The commands of a program that use a buffer: from `from` up to, not including, `to`. */
export interface Lifetime {
  readonly bytes: number;
  readonly from: number;
  readonly to: number;
}

/** An assignment of buffers to slots of memory. */
export interface MemoryPlan {
  /** Size of each slot. */
  readonly slotBytes: readonly number[];
  /** The slot of each lifetime, by index. */
  readonly slotOf: readonly number[];
}

/**
 * Assigns buffers with disjoint lifetimes to shared slots. Buffers are taken largest first; each
 * goes to the smallest slot that is free for its whole lifetime, or else to a new slot of its size
 * ("greedy by size" for shared objects, arXiv 2001.03288).
 *
 * Each slot is a buffer of its own, since WebGPU forbids a kernel to write a buffer that it reads.
 */
export function planMemory(lifetimes: readonly Lifetime[]): MemoryPlan {
  const slots: { bytes: number; tenants: Lifetime[] }[] = [];
  const slotOf = new Array<number>(lifetimes.length);
  const largestFirst = [...lifetimes.keys()].sort((a, b) => lifetimes[b].bytes - lifetimes[a].bytes);
  for (const index of largestFirst) {
    const life = lifetimes[index];
    // Slots are in descending size, so the last that fits is the smallest.
    let slot = slots.findLastIndex(({ tenants }) =>
      tenants.every(({ from, to }) => to <= life.from || life.to <= from)
    );
    if (slot < 0) slot = slots.push({ bytes: life.bytes, tenants: [] }) - 1;
    slots[slot].tenants.push(life);
    slotOf[index] = slot;
  }
  return { slotBytes: slots.map(({ bytes }) => bytes), slotOf };
}
