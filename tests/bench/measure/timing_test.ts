import { assert, assertEquals } from "@std/assert";
import {
  recordedWork,
  replayedWork,
  summary,
  time,
  timeInTurns,
  waitingMs,
  type Work,
} from "../../../bench/measure/timing.ts";
import { declareKernel, storage } from "../../../engine/kernel/kernel.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { gpuTest } from "../../gpu.ts";
import { runDeno } from "../../run_deno.ts";

/** Work whose every run takes `ms`, on a clock of its own; notes the order of samples. */
function pretended(name: string, ms: number, log: [string, number][]): Work {
  return {
    sample(count) {
      log.push([name, count]);
      return Promise.resolve({ ms: ms * count });
    },
  };
}

Deno.test("works run in alternating order after one warm-up each", async () => {
  const log: [string, number][] = [];
  await timeInTurns([pretended("a", 1, log), pretended("b", 1, log)], { budgetMs: 40 });
  assertEquals(log.slice(-8).map(([name]) => name).join(""), "abbaabba");
  assertEquals(log[0], ["a", 1]);
});

Deno.test("long works alternate too, with the planning run as the first batch", async () => {
  const log: [string, number][] = [];
  await timeInTurns([pretended("a", 400, log), pretended("b", 500, log)], { budgetMs: 300, isWarm: true });
  assertEquals(log.map(([name]) => name).join(""), "abba");
});

Deno.test("batches fill the budget, whatever the time of a run", async () => {
  for (const ms of [0.001, 0.2, 1, 30]) {
    const timing = await time(pretended("a", ms, []), { budgetMs: 300 });
    assertEquals(timing.batches, 4);
    const batchMs = timing.runs * ms;
    assert(timing.runs === 2048 || (batchMs >= 75 && batchMs <= 75 + ms), `${ms}: ${batchMs}`);
    assert(Math.abs(timing.minMs - ms) < 1e-9);
  }
});

Deno.test("a run that takes the whole budget is timed twice, and a very long one once", async () => {
  for (const [ms, expected] of [[400, 2], [5000, 1]]) {
    const log: [string, number][] = [];
    const timing = await time(pretended("a", ms, log), { budgetMs: 300 });
    assertEquals([timing.runs, timing.batches], [1, expected]);
    assertEquals(log.length, expected + 1); // warm-up; what planning takes counts
    log.length = 0;
    await time(pretended("a", ms, log), { budgetMs: 300, isWarm: true });
    assertEquals(log.length, expected);
  }
});

Deno.test("summary() returns minimum and median per run, and whether the host limited the time", () => {
  const samples = [{ ms: 30 }, { ms: 10, hostMs: 9 }, { ms: 20 }];
  assertEquals(summary(samples, 10), { minMs: 1, medianMs: 2, runs: 10, batches: 3, hostBound: true });
  assertEquals(summary([{ ms: 4 }, { ms: 2, hostMs: 1 }], 2), {
    minMs: 1,
    medianMs: 1.5,
    runs: 2,
    batches: 2,
    hostBound: false,
  });
});

Deno.test("recorded work is timed by the clock that is given, without the wait's time by the same clock", async () => {
  let now = 5;
  const clock = () => now;
  const wait = () => Promise.resolve(void (now += 10));
  const waitMs = await waitingMs(wait, clock);
  assertEquals(waitMs, 10);
  const work = recordedWork(() => void (now += 2), wait, { waitMs, clock });
  assertEquals(await work.sample(3), { ms: 6 });
});

gpuTest("replayed work is recorded once and computes in each run", async (gpu) => {
  const countUp = declareKernel({
    name: "test_count_up",
    bindings: { y: storage("write", "array<f32>") },
    params: { step: "f32" },
    wgsl: "@compute @workgroup_size(1) fn main() { y[0] += params.step; }",
    grid: () => [1, 1, 1],
    cost: () => ({ flops: 1, bytes: 8 }),
  });
  using y = Tensor.from(gpu, new Float32Array(1), [1]);
  let recorded = 0;
  const record = () => {
    recorded++;
    countUp.run(gpu, { y }, { step: 2 });
  };
  using work = replayedWork(gpu, record, { waitMs: 0 });
  await work.sample(3);
  await work.sample(2);
  assertEquals([recorded, ...await y.data()], [1, 10]);
});

Deno.test("processor time grows with work and hardly with waiting", async () => {
  const program = new URL("processor_time.ts", import.meta.url).pathname;
  const { out, err } = await runDeno(["run", "-q", "-P=test", "--no-prompt", program]);
  assertEquals(err, "");
  const waited = Number(out);
  assert(waited >= 0 && waited < 200, `${waited}`);
});
