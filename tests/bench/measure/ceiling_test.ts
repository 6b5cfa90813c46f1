import { assert } from "@std/assert";
import { measureCeiling } from "../../../bench/measure/ceiling.ts";
import { waitingMs } from "../../../bench/measure/timing.ts";
import { gpuTest } from "../../gpu.ts";

gpuTest("the ceiling has an empty dispatch, which takes less than a copy of megabytes", async (gpu) => {
  const waitMs = await waitingMs(() => gpu.finished());
  const { gflops, gbps, dispatchMs } = await measureCeiling(gpu, { budgetMs: 20, waitMs });
  const copyMs = 2 * 2 ** 25 / gbps / 1e6;
  assert(gflops > 0 && dispatchMs! > 0 && dispatchMs! < copyMs, `${gflops}, ${dispatchMs}, ${copyMs}`);
});
