import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { SchedulerError, TorchGenerator } from "../../schedulers/mod.ts";
import { loadGoldens } from "../goldens.ts";

/** By how much torch differs from itself, between its vector and scalar paths. */
const TOLERANCE = 4e-6;

const { tensors } = await loadGoldens("torch_generator");

function assertDraws(draws: Float32Array, key: string): void {
  const golden = tensors.get(key)!.data;
  if (golden.length < 16) return assertEquals(draws, golden, key);
  const worst = draws.reduce((most, value, i) => Math.max(most, Math.abs(value - golden[i])), 0);
  assert(draws.length === golden.length && worst <= TOLERANCE, `${key}: away by ${worst}`);
}

Deno.test("randn() draws what torch.randn draws, for each seed and length", () => {
  const single = [...tensors.keys()].filter((key) => !key.startsWith("sequence"));
  for (const key of single) {
    const [seed, count] = key.split(".").map(Number);
    assertDraws(new TorchGenerator(seed).randn([count]), key);
  }
  assert(single.length >= 36);
});

Deno.test("randn() keeps the spare of a short draw through long draws, as torch does", () => {
  const generator = new TorchGenerator(3);
  const keys = [...tensors.keys()].filter((key) => key.startsWith("sequence3.")).sort();
  for (const key of keys) assertDraws(generator.randn([Number(key.split(".")[2])]), key);
  assertEquals(keys.length, 7);
});

Deno.test("randn() depends on the number of draws, not on how the shape arranges them", () => {
  assertEquals(new TorchGenerator(5).randn([2, 3, 4]), new TorchGenerator(5).randn([24]));
  assertEquals(new TorchGenerator(5).randn([]), new TorchGenerator(5).randn([1]));
  assertEquals(new TorchGenerator(5).randn([0, 4]).length, 0);
});

Deno.test("only the low 32 bits of a seed are used; `seed` returns it unchanged", () => {
  const one = new TorchGenerator(2 ** 32 + 7).randn([20]);
  assertEquals(new TorchGenerator(7).randn([20]), one);
  assertEquals(new TorchGenerator(7n + (1n << 40n)).randn([20]), one);
  assertEquals(new TorchGenerator(-1).randn([20]), new TorchGenerator(0xffffffff).randn([20]));
  assertEquals(new TorchGenerator(2 ** 32 + 7).seed, 2 ** 32 + 7);
});

Deno.test("a generator without a seed takes a random one, which reproduces its draws", () => {
  const generator = new TorchGenerator();
  assertEquals(new TorchGenerator(generator.seed).randn([32]), generator.randn([32]));
  assertNotEquals(new TorchGenerator().randn([32]), new TorchGenerator().randn([32]));
});

Deno.test("seeds that are not integers and invalid shapes throw", () => {
  assertThrows(() => new TorchGenerator(0.5), SchedulerError, "0.5");
  assertThrows(() => new TorchGenerator(2 ** 60), SchedulerError, "bigint");
  assertThrows(() => new TorchGenerator(1).randn([2, -1]), SchedulerError, "[2, -1]");
});

Deno.test("shapes and counts that are none, or too many values, are refused before anything is drawn", () => {
  const generator = new TorchGenerator(5);
  for (const shape of [[-1], [1.5], [NaN], [2 ** 20, 2 ** 20], "12", 3, null, undefined]) {
    assertThrows(() => generator.randn(shape as number[]), SchedulerError, "Cannot draw");
  }
  for (const count of [-1, 0.5, NaN, Infinity, 1e15, "3"]) {
    assertThrows(() => generator.skip(count as number), SchedulerError, "Cannot skip");
  }
  assertEquals(generator.randn([3]), new TorchGenerator(5).randn([3]), "the sequence has not advanced");
});
