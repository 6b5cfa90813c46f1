import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type Lifetime, planMemory } from "../../../engine/memory/plan.ts";

const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);

const lifetimes = fc.array(
  fc.tuple(fc.integer({ min: 1, max: 40 }), fc.nat(60), fc.nat(20)).map(([bytes, from, length]): Lifetime => ({
    bytes: 256 * bytes,
    from,
    to: from + length,
  })),
  { maxLength: 60 },
);

Deno.test("planMemory() gives each buffer a slot that is large enough and free for its lifetime", () => {
  fc.assert(fc.property(lifetimes, (lives) => {
    const { slotBytes, slotOf } = planMemory(lives);
    assertEquals(slotOf.length, lives.length);
    lives.forEach((life, index) => {
      assert(life.bytes <= slotBytes[slotOf[index]]);
      lives.slice(index + 1).forEach((other, offset) => {
        const together = life.from < other.to && other.from < life.to;
        assert(!together || slotOf[index] !== slotOf[index + 1 + offset]);
      });
    });
  }));
});

Deno.test("planMemory() covers the peak, with no slot larger than its largest buffer and none empty", () => {
  fc.assert(fc.property(lifetimes, (lives) => {
    const { slotBytes, slotOf } = planMemory(lives);
    for (let time = 0; time < 80; time++) {
      const atOnce = lives.filter(({ from, to }) => from <= time && time < to).map(({ bytes }) => bytes);
      assert(sum(atOnce) <= sum(slotBytes));
    }
    slotBytes.forEach((bytes, slot) => {
      assertEquals(bytes, Math.max(...lives.filter((_, index) => slotOf[index] === slot).map((life) => life.bytes)));
    });
  }));
});

Deno.test("planMemory() needs two slots for a chain of layers, and a third for a residual across it", () => {
  const chain = Array.from({ length: 9 }, (_, layer) => ({ bytes: 1024, from: layer, to: layer + 2 }));
  assertEquals(planMemory(chain).slotBytes, [1024, 1024]);
  assertEquals(planMemory([...chain, { bytes: 512, from: 2, to: 8 }]).slotBytes, [1024, 1024, 512]);
  assertEquals(planMemory([]), { slotBytes: [], slotOf: [] });
});
