import { assert, assertEquals } from "@std/assert";
import { byteText } from "../../../engine/inspect.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import { inspectFolder } from "../../../pipeline/inspection.ts";
import { openPipeline } from "../../../pipeline/open_pipeline.ts";
import { gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

gpuTest("an inspection predicts the memory that a model's weights take on the device", async (gpu) => {
  for (const name of ["sd2-mini", "sdxl-mini"]) {
    const { parts, notes } = await inspectFolder(await directoryTree(`${goldens}/${name}`));
    const predicted = parts.reduce((sum, { deviceBytes }) => sum + deviceBytes, 0);
    const before = gpu.memory.live;
    using _pipe = await openPipeline(`${goldens}/${name}`, { gpu });
    const taken = gpu.memory.live - before;
    assert(Math.abs(taken / predicted - 1) < 1e-3, `${name}: ${predicted} predicted, ${taken} taken`);
    assertEquals(notes[0], `Its weights take ${byteText(predicted)} on the device; drawing takes more`);
  }
});
