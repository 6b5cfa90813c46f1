import { assert, assertEquals, assertRejects } from "@std/assert";
import { memoryTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import { CheckpointError, ConfigError, OptionError } from "../../pipeline/errors.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { StableDiffusionXLModelEditingPipeline } from "../../pipeline/model_editing_xl.ts";
import { openPipeline } from "../../pipeline/open_pipeline.ts";
import { gpuTest } from "../gpu.ts";
import { goldens } from "../paths.ts";

gpuTest("openPipeline opens each checkpoint with the class that edits its family", async (gpu) => {
  using sd = await openPipeline(`${goldens}/sd1-mini`, { gpu, safetyChecker: null, withToK: false });
  using xl = await openPipeline(`${goldens}/sdxl-mini`, { gpu, safetyChecker: null, forceZerosForEmptyPrompt: false });
  assert(sd instanceof StableDiffusionModelEditingPipeline);
  assert(xl instanceof StableDiffusionXLModelEditingPipeline);
  assertEquals([
    sd.defaultGuidanceScale,
    xl.defaultGuidanceScale,
    (xl as StableDiffusionXLModelEditingPipeline).forceZerosForEmptyPrompt,
  ], [7.5, 5, false]);
  for (const pipe of [sd, xl]) {
    await pipe.editModel("A pack of roses", "A pack of blue roses");
    const { images } = await pipe.generate("a rose", { numInferenceSteps: 1, outputType: "array", clipSkip: 0 });
    assertEquals(images.shape.slice(0, 1), [1]);
  }
  assertEquals(sd.edits.entries[0].edit.recipe.withToK, false);
});

gpuTest("openPipeline refuses options of another family, and names what it does not know", async (gpu) => {
  await assertRejects(
    () => openPipeline(`${goldens}/sd1-mini`, { gpu, forceZerosForEmptyPrompt: true }),
    OptionError,
    "forceZerosForEmptyPrompt",
  );
  await assertRejects(
    () => openPipeline(`${goldens}/sdxl-mini`, { gpu, requiresSafetyChecker: true } as object),
    OptionError,
    "StableDiffusionXLPipeline",
  );
  await assertRejects(() => openPipeline(`${goldens}/sd1-mini/unet`, { gpu }), Error, "model_index.json");
  const empty = memoryTree({ "readme.txt": new Uint8Array(1) }, "texts");
  await assertRejects(
    () => openPipeline(empty, { gpu }),
    CheckpointError,
    "Cannot load texts as it has no model_index",
  );
  const index = { _class_name: "StableDiffusionXLImg2ImgPipeline" };
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/model_index.json`, JSON.stringify(index));
    await assertRejects(() => openPipeline(directory, { gpu }), ConfigError, "an SDXL refiner");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
