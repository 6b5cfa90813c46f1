/**
 * Part of `deno task test:dawn`: Dawn draws what Deno's own WebGPU draws. The pipelines' own tests
 * take SwiftShader too long.
 *
 * @module
 */
import { assertNotEquals } from "@std/assert";
import { Gpu } from "../../engine/gpu.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { drawPocket, pocket } from "../pocket_drawing.ts";

gpuTest("the pocket model draws on Dawn what it draws on Deno's WebGPU, before and after an edit", async (dawn) => {
  const icd = Deno.env.get("VK_ICD_FILENAMES");
  Deno.env.delete("VK_ICD_FILENAMES"); // Deno's WebGPU has its own choice of drivers
  using gpu = await Gpu.request();
  if (icd) Deno.env.set("VK_ICD_FILENAMES", icd);
  const there = await drawPocket(pocket.pathname, dawn);
  const here = await drawPocket(pocket.pathname, gpu);
  assertNotEquals(dawn.context.device.constructor, gpu.context.device.constructor, "both are one implementation");
  assertClose(there.plain, here.plain, 1e-4, "plain");
  assertClose(there.edited, here.edited, 5e-4, "edited");
});
