import { assertEquals, assertRejects } from "@std/assert";
import { compareEditors } from "../../../pipeline/evaluation/editors/compare.ts";
import { evaluateEdits } from "../../../pipeline/evaluation/evaluate_edits.ts";
import { debias } from "../../../pipeline/evaluation/debias/debias.ts";
import { pendingBatches } from "../../../pipeline/evaluation/sweep/batches.ts";
import { planSweep } from "../../../pipeline/evaluation/sweep/plan.ts";
import { runSweep } from "../../../pipeline/evaluation/sweep/run.ts";
import type { Judge } from "../../../pipeline/evaluation/verdicts.ts";
import { StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";
import { rows, settings } from "./sweep/plans.ts";

const judge: Judge = { score: (images, texts) => Promise.resolve(new Float32Array(images.length * texts.length)) };
const cases = rows.map((row) => ({ ...row, preserve: [] }));
const editors = [{
  name: "uce",
  editor: { method: "uce", lamb: 0.5, withToK: true, preserve: false },
}] as const;
const reason = new Error("asked to end");

gpuTest(
  "an edit that is being solved is given up when the evaluation's signal aborts, and nothing is drawn",
  async (gpu) => {
    using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
    const generate = pipe.generate.bind(pipe);
    let calls = 0;
    pipe.generate = ((...args: Parameters<typeof generate>) => (calls++, generate(...args))) as typeof pipe.generate;
    const { plan, batches } = sweep();
    const work = { plan, fingerprint: "0", batches };
    const evaluations: [name: string, calls: number, run: (controller: AbortController) => Promise<unknown>][] = [
      ["evaluateEdits", 0, ({ signal }) => evaluateEdits(pipe, judge, cases, { signal, steps: 1 })],
      ["debias", 0, ({ signal }) => debias(pipe, judge, { source: "a rose", destinations: ["a", "b"] }, { signal })],
      ["runSweep", 0, ({ signal }) => runSweep(pipe, judge, work, { signal }).next()],
      ["runSweep, stop", 0, ({ signal }) => runSweep(pipe, judge, work, { stop: signal }).next()],
    ];
    for (const [name, expected, run] of evaluations) {
      calls = 0;
      const controller = new AbortController();
      const running = run(controller); // which has begun to solve when it returns
      controller.abort(reason);
      assertEquals(await assertRejects(() => running), reason, name);
      assertEquals(calls, expected, name);
    }
    // compareEditors() draws the unedited pictures first, in one batch.
    calls = 0;
    const controller = new AbortController();
    const options = { editors, concepts: [1], steps: 1, signal: controller.signal };
    const comparing = compareEditors(pipe, judge, cases, {
      ...options,
      onResult: () => void queueMicrotask(() => controller.abort(reason)),
    });
    assertEquals(await assertRejects(() => comparing), reason);
    assertEquals(calls, 1);
  },
);

gpuTest("runSweep() finishes the batch that it draws when it is to stop, and begins no other", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  const { plan, batches } = sweep();
  const stop = new AbortController();
  const generate = pipe.generate.bind(pipe);
  pipe.generate = ((...args: Parameters<typeof generate>) => {
    stop.abort(reason);
    return generate(...args);
  }) as typeof pipe.generate;
  const running = runSweep(pipe, judge, { plan, fingerprint: "0", batches }, { stop: stop.signal });
  assertEquals((await running.next()).value?.length, 3);
  assertEquals(await assertRejects(() => running.next()), reason);
  assertEquals(pipe.edits.length, 0);
});

/** A plan of two edits with three prompts each, in a batch for each. */
function sweep() {
  const plan = planSweep(rows, { seeds: 1, firstSeed: 0 }, { ...settings(), steps: 1 });
  return { plan, batches: pendingBatches(plan, plan.jobs, { results: [], batchSize: 8 }) };
}
