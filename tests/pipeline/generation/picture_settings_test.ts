/** A picture's settings are read back as they were written. */
import { assertEquals } from "@std/assert";
import { readPictureSettings } from "../../../pipeline/generation/picture_settings.ts";
import type { ExactSettings } from "../../../pipeline/generation/exact_settings.ts";
import { generationText } from "../../../pipeline/image/generation_text.ts";
import { encodePicture } from "../../../pipeline/image/picture.ts";

Deno.test("prompts of any length, thousands of adapters and negative crops are read back from PNG and JPEG", async () => {
  const prompt = "a rose ".repeat(20_000);
  const adapter = { kind: "lora", file: "ink.safetensors", weight: 0.5 } as const;
  const exact: ExactSettings = {
    version: "1.2.3",
    device: "",
    scheduler: {},
    promptSyntax: "a1111",
    loraDir: "",
    variant: "",
    editNegativePrompt: false,
    vaeTiling: false,
    safetyChecker: false,
    xl: { prompt2: prompt, cropsCoordsTopLeft: [-16, 2_000_000] },
    edits: [],
    adapters: Array(2000).fill(adapter),
  };
  const record = {
    ...{ prompt, negativePrompt: prompt, seed: 7, steps: 20, cfgScale: 5, sampler: "ddim" },
    ...{ width: 64, height: 64, model: "pocket", clipSkip: 0, edits: [], exact },
  };
  for (const format of ["png", "jpeg"] as const) {
    const picture = { data: new Uint8Array(12), width: 2, height: 2 };
    const read = await readPictureSettings(await encodePicture(picture, format, { text: generationText(record) }));
    assertEquals([read.prompt, read.negativePrompt, read.exact], [prompt, prompt, exact]);
  }
});
