/** When a buffer is wanted: from one command of a program up to, not including, another. */
export interface Lifetime {
  readonly bytes: number;
  readonly from: number;
  readonly to: number;
}

/** Which of some slots of memory each buffer lies in. */
export interface MemoryPlan {
  readonly slotBytes: readonly number[];
  /** By the lifetime's number. */
  readonly slotOf: readonly number[];
}

/**
 * Lays buffers that are wanted at different times into shared slots: the largest first, each into
 * the smallest slot that is free for all of its life, or else into a new one as large as itself
 * ("greedy by size" for shared objects, arXiv 2001.03288).
 *
 * Slots are buffers apart, and not places in one buffer, since WebGPU lets no kernel write a buffer
 * that it also reads.
 */
export function planMemory(lifetimes: readonly Lifetime[]): MemoryPlan {
  const slots: { bytes: number; tenants: Lifetime[] }[] = [];
  const slotOf = new Array<number>(lifetimes.length);
  const largestFirst = [...lifetimes.keys()].sort((a, b) => lifetimes[b].bytes - lifetimes[a].bytes);
  for (const index of largestFirst) {
    const life = lifetimes[index];
    // Slots were opened largest first, so the last that suits is the smallest.
    let slot = slots.findLastIndex(({ tenants }) =>
      tenants.every(({ from, to }) => to <= life.from || life.to <= from)
    );
    if (slot < 0) slot = slots.push({ bytes: life.bytes, tenants: [] }) - 1;
    slots[slot].tenants.push(life);
    slotOf[index] = slot;
  }
  return { slotBytes: slots.map(({ bytes }) => bytes), slotOf };
}
