import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { editsPerRow } from "../../../pipeline/editing/edits_per_row.ts";
import type { StackableEdit } from "../../../pipeline/editing/edit_stack.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { EditError } from "../../../pipeline/errors.ts";
import { type EditingGenerateOptions, StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

const [a, b, c] = [1, 2, 3].map(() => ({}) as StackableEdit);
const counts = (prompts: number, numImagesPerPrompt = 1, guided = true) => ({ prompts, numImagesPerPrompt, guided });

Deno.test("edit lists are given per prompt or per picture; negative prompts use those of their prompts", () => {
  assertEquals(editsPerRow({}, counts(2)), ["all", "all", "all", "all"]);
  assertEquals(editsPerRow({ editNegativePrompt: false }, counts(1, 2)), [[], [], "all", "all"]);
  assertEquals(editsPerRow({ editsPerPrompt: [[a], [b]] }, counts(2)), [[a], [b], [a], [b]]);
  assertEquals(editsPerRow({ editsPerPrompt: [[a], [b]] }, counts(2, 1, false)), [[a], [b]]);
  assertEquals(editsPerRow({ editsPerPrompt: [[a], [b]] }, counts(2, 2, false)), [[a], [a], [b], [b]]);
  assertEquals(editsPerRow({ editsPerPrompt: [[a], [b], [c], []] }, counts(2, 2, false)), [[a], [b], [c], []]);
  assertEquals(editsPerRow({ editsPerPrompt: [[a]], editsPerNegativePrompt: [[b]] }, counts(1)), [[b], [a]]);
  assertEquals(editsPerRow({ editsPerNegativePrompt: [[b]] }, counts(1)), [[b], "all"]);
  assertEquals(editsPerRow({ editsPerPrompt: [[a]], editNegativePrompt: false }, counts(1)), [[], [a]]);
});

Deno.test("a wrong number of edit lists is rejected, with and without guidance", () => {
  for (const guided of [true, false]) {
    for (const lists of [[], [[a]], [[a], [b], [c]], [[a], [b], [c], [a]]]) {
      const refused = (options: object) => assertThrows(() => editsPerRow(options, counts(2, 1, guided)), EditError);
      refused({ editsPerPrompt: lists });
      refused({ editsPerNegativePrompt: lists });
    }
  }
  assertThrows(
    () => editsPerRow({ editsPerPrompt: [[a]] }, counts(2, 3)),
    EditError,
    "each prompt, 2, or one for each picture, 6",
  );
  assertThrows(
    () => editsPerRow({ editsPerNegativePrompt: [[a]], editNegativePrompt: false }, counts(1)),
    EditError,
    "give one of them",
  );
});

gpuTest("negative prompts read edited embeddings unless editNegativePrompt is false", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  const negativePrompt = "a pack of roses", prompt = "a field of roses";
  const draw = async (options: EditingGenerateOptions<"array"> = {}) =>
    (await pipe.generate(prompt, {
      numInferenceSteps: 2,
      generator: 3,
      negativePrompt,
      outputType: "array",
      ...options,
    }))
      .images;
  using edit = await ModelEdit.solve([{ source: "A pack of roses", destination: "A pack of blue roses" }], {}, pipe);
  // By definition: the rows Ex of the prompt, and x of the negative prompt, as embeddings.
  const { promptEmbeds, negativePromptEmbeds } = await pipe.encodePrompt(prompt, { negativePrompt });
  using positive = promptEmbeds;
  using negative = negativePromptEmbeds!;
  using edited = edit.operator.apply(positive);
  using editedNegative = edit.operator.apply(negative);
  const from = async (promptEmbeds: typeof positive, negativePromptEmbeds: typeof positive) =>
    (await pipe.generate(undefined, {
      promptEmbeds,
      negativePromptEmbeds,
      numInferenceSteps: 2,
      generator: 3,
      outputType: "array",
    })).images;
  const both = await from(edited, editedNegative), promptOnly = await from(edited, negative);
  const negativeOnly = await from(positive, editedNegative);
  pipe.edits.push(edit);
  assertClose(await draw(), both, 1e-5, "both");
  assertClose(await draw({ editNegativePrompt: false }), promptOnly, 1e-5, "the prompt only");
  assertClose(await draw({ editsPerPrompt: [[]], editsPerNegativePrompt: [[edit]] }), negativeOnly, 1e-5, "negative");
  assert(!both.every((value, i) => value === promptOnly[i]));

  using stranger = await ModelEdit.solve([{ source: "A cat", destination: "A white cat" }], {}, pipe);
  for (const option of ["editsPerPrompt", "editsPerNegativePrompt"]) {
    await assertRejects(() => draw({ [option]: [[stranger]] }), EditError, "not on the pipeline's stack");
  }
  pipe.edits.clear();
  await assertRejects(() => draw({ editsPerPrompt: [[edit]] }), EditError, "stack of 0 edits: push it");
  await assertRejects(() => draw({ editsPerPrompt: [] }), EditError, "one list of edits for each prompt, 1");
});
