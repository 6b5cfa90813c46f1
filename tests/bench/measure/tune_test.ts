import { assert, assertEquals } from "@std/assert";
import { candidates } from "../../../bench/measure/tune.ts";
import { tileKinds } from "../../../kernels/tuning.ts";
import { gpuTest, lackOf } from "../../gpu.ts";

gpuTest(
  "tiles of halves are tuned on a device that was opened with f16 arithmetic",
  (gpu) => {
    for (const kind of tileKinds) {
      const strategies = candidates(gpu, kind).map(({ strategy }) => strategy);
      assert(
        strategies.includes("half") && strategies.some((strategy) => strategy !== "half"),
        `${kind}: ${strategies}`,
      );
    }
  },
  { arithmetic: "f16" },
  await lackOf("shader-f16"),
);

gpuTest("tiles of halves are not tuned on other devices", (gpu) => {
  for (const kind of tileKinds) assertEquals(candidates(gpu, kind).filter(({ strategy }) => strategy === "half"), []);
});
