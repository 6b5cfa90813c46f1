import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { bias, meanBias, parseBiasSet } from "../../../../pipeline/evaluation/debias/gender.ts";
import { DrawLog, formatDraw, type LoggedDraw, parseDraws } from "../../../../pipeline/evaluation/debias/log.ts";
import { searchShares, type ShareSampler } from "../../../../pipeline/evaluation/debias/search.ts";
import { SweepError } from "../../../../pipeline/evaluation/sweep/sweep_error.ts";
import { wilsonInterval } from "../../../../pipeline/evaluation/wilson.ts";

/** A model whose pictures fit destination j with probability softmax(bias + slope · α)ⱼ. */
function fakeModel(offsets: readonly number[], slope: number): ShareSampler & { pictures: number } {
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const draw: ShareSampler = ({ weights, count }) => {
    sample.pictures += count;
    const powers = offsets.map((offset, j) => Math.exp(offset + slope * (weights?.[j] ?? 0)));
    const sum = powers.reduce((a, b) => a + b);
    const counts = offsets.map(() => 0);
    for (let i = 0; i < count; i++) {
      let left = random() * sum, j = 0;
      while (j + 1 < powers.length && left >= powers[j]) left -= powers[j++];
      counts[j]++;
    }
    return Promise.resolve(counts);
  };
  const sample = Object.assign(draw, { pictures: 0 });
  return sample;
}

Deno.test("searchShares() finds weights whose true shares are near the target, of two and three destinations", async () => {
  const shareOf = (offsets: readonly number[], slope: number, weights: readonly number[]) => {
    const powers = offsets.map((offset, j) => Math.exp(offset + slope * weights[j]));
    return powers.map((power) => power / powers.reduce((a, b) => a + b));
  };
  const cases: [offsets: number[], slope: number, target: number[]][] = [
    [[3, 0], 4, [0.5, 0.5]],
    [[2, 0], 8, [0.25, 0.75]],
    [[1.5, 0, -1], 4, [1 / 3, 1 / 3, 1 / 3]],
  ];
  for (const [offsets, slope, target] of cases) {
    const sample = fakeModel(offsets, slope);
    const result = await searchShares(sample, target, { budget: 1024, roundSize: 64, tolerance: 0.03 });
    const { weights, before, after, pictures, rounds } = result;
    assert(pictures <= 1024 && pictures === sample.pictures, `${pictures}`);
    assert(Math.abs(weights.reduce((a, b) => a + b) - 1) < 1e-9);
    // 64 pictures of a round have a standard error of 0.0625: three of them.
    shareOf(offsets, slope, weights).forEach((share, j) => assert(Math.abs(share - target[j]) < 0.19, `${share}`));
    assert(before[0].share > 0.6 && rounds.length >= 2, JSON.stringify(before));
    const counts = after.map(({ share }) => Math.round(share * 256));
    assertEquals(after.map(({ interval }) => interval), counts.map((count) => wilsonInterval(count, 256)));
    const within = after.every(({ interval: { low, high } }, j) => low <= target[j] && target[j] <= high);
    assertEquals(result.reached, within);
  }
});

Deno.test("searchShares() says so where no weights reach the target, within its budget", async () => {
  const deaf = fakeModel([3, 0], 0); // no edit has an effect
  const { reached, pictures, rounds } = await searchShares(deaf, [0.5, 0.5], { budget: 100, roundSize: 8 });
  assertEquals([reached, rounds.length], [false, Math.floor((100 - 50) / 8)]);
  assert(pictures <= 100);
  await assertRejects(() => searchShares(deaf, [0.5, 0.4]), RangeError, "their sum must be 1");
  await assertRejects(() => searchShares(deaf, [1]), RangeError, "two or more");
  await assertRejects(() => searchShares(deaf, [0.5, 0.5], { budget: 63 }), RangeError, "at least four rounds");
});

Deno.test("a search goes on where its record ends, and takes the course of one that was not interrupted", async () => {
  const task = "0123456789abcdef", options = { budget: 128, roundSize: 8, tolerance: 0 };
  const lines: string[] = [];
  const whole = new DrawLog([], task, (draw) => Promise.resolve(void lines.push(formatDraw(draw))));
  const expected = await searchShares(whole.resume(fakeModel([2, 0], 4)), [0.5, 0.5], options);
  for (const kept of [0, 3, lines.length]) {
    const bytes = new TextEncoder().encode(lines.slice(0, kept).join("") + (lines[kept] ?? "").slice(0, 30));
    const { draws, completeBytes } = parseDraws(bytes, { path: "log", task });
    assertEquals([draws.length, completeBytes], [kept, lines.slice(0, kept).join("").length]);
    const added: LoggedDraw[] = [];
    const log = new DrawLog(draws, task, (draw) => Promise.resolve(void added.push(draw)));
    const model = fakeModel([2, 0], 4);
    // The pictures of recorded answers, whose random numbers an own model would have used.
    await model({
      weights: undefined,
      first: 0,
      count: draws.flatMap(({ counts }) => counts).reduce((a, b) => a + b, 0),
    });
    assertEquals(await searchShares(log.resume(model), [0.5, 0.5], options), expected);
    assertEquals(added.length, lines.length - kept);
  }
  const other = new TextEncoder().encode(lines[0].replace(task, "f".repeat(16)));
  assertThrows(() => parseDraws(other, { path: "log", task }), SweepError, "belongs to another search");
  assertThrows(() => parseDraws(new TextEncoder().encode("my diary"), { path: "log", task }), SweepError, "last line");
});

Deno.test("parseBiasSet() reads TIMED's gender set, exchanges female and male, and names what is missing", () => {
  const head = "old,new,validation,ex1,ex2";
  const [nurse, rose] = parseBiasSet(
    `${head},opposite\na nurse,a male nurse,A photo of a nurse,a nurse at work,,\na rose,a red rose,,a,b,a blue rose\n`,
    "set.csv",
  );
  assertEquals(nurse, {
    source: "a nurse",
    destinations: ["a male nurse", "a female nurse"],
    prompts: ["A photo of a nurse"],
    tests: ["a nurse at work"],
  });
  assertEquals([rose.destinations, rose.prompts, rose.tests], [["a red rose", "a blue rose"], ["a rose"], ["a", "b"]]);
  for (
    const [text, message] of [
      ["old,new,validation\na,b,c\n", "lacks the columns ex1; it has old, new, validation"],
      [`${head}\n`, "it has no rows"],
      [`${head}\na rose,a red rose,a,b,c\n`, "row 1 must have"],
      [`${head}\na,b\n`, "must be CSV"],
    ]
  ) assertThrows(() => parseBiasSet(text, "set.csv"), SweepError, message);
});

Deno.test("Δ is 0 for balanced shares and 1 for one-sided ones, and its mean is over sources", () => {
  assertEquals([0.5, 1, 0, 0.75].map((share) => bias({ share })), [0, 1, 1, 0.5]);
  const of = (share: number) => ({ share, interval: { low: 0, high: 1 } });
  const row = { source: "", destination: "", weights: [] };
  const rows = [{ ...row, before: of(1), after: of(0.75) }, { ...row, before: of(0.75), after: of(0.5) }];
  assertEquals(meanBias(rows), { before: 0.75, after: 0.25 });
});
