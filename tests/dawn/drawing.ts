/**
 * Part of `deno task test:dawn`: compares images from Dawn with images from Deno's WebGPU. The
 * pipeline tests take too long on SwiftShader.
 *
 * @module
 */
import { assertNotEquals } from "@std/assert";
import { Gpu } from "../../engine/gpu.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { drawPocket, pocket } from "../pocket_drawing.ts";

gpuTest(
  "the pocket model generates the same images on Dawn and on Deno's WebGPU, before and after an edit",
  async (dawn) => {
    const icd = Deno.env.get("VK_ICD_FILENAMES");
    Deno.env.delete("VK_ICD_FILENAMES"); // Deno's WebGPU chooses its own driver
    using gpu = await Gpu.request();
    if (icd) Deno.env.set("VK_ICD_FILENAMES", icd);
    const there = await drawPocket(pocket.pathname, dawn);
    const here = await drawPocket(pocket.pathname, gpu);
    assertNotEquals(dawn.context.device.constructor, gpu.context.device.constructor, "both are one implementation");
    assertClose(there.plain, here.plain, 1e-4, "plain");
    assertClose(there.edited, here.edited, 5e-4, "edited");
  },
);
