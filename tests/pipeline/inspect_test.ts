import { assert, assertEquals } from "@std/assert";
import { Tensor } from "../../engine/tensor.ts";
import { byteText } from "../../engine/inspect.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { StableDiffusionModelEditingPipeline } from "../../pipeline/model_editing.ts";
import { gpuTest } from "../gpu.ts";
import { goldens, repository } from "../paths.ts";
import { runDeno } from "../run_deno.ts";

gpuTest("pipelines, models, tensors, edits, results and devices print as one or a few lines", async (gpu) => {
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(`${goldens}/sd1-mini`, { gpu });
  using tensor = Tensor.from(gpu, new Float32Array(6144), [1, 2, 3072]);
  using edit = await ModelEdit.solve([{ source: "A rose", destination: "A blue rose" }], { lamb: 0.2 }, pipe);
  assert(/^Gpu ".+", [\d.]+ [KM]iB in tensors \(at most [\d.]+ [KM]iB\)$/.test(Deno.inspect(gpu)), Deno.inspect(gpu));
  assertEquals(Deno.inspect(tensor), "Tensor [1, 2, 3072] f32, 24.0 KiB");
  const gone = Tensor.from(gpu, new Float32Array(1), [1]);
  gone[Symbol.dispose]();
  assertEquals(Deno.inspect({ gone }), "{ gone: Tensor [1] f32, 4 B, disposed }");
  const layers = edit.report.layers.length;
  assertEquals(
    Deno.inspect(edit),
    `ModelEdit "A rose" -> "A blue rose", lambda 0.2, rank ${edit.rank}, ${layers} layers`,
  );
  assertEquals(Deno.inspect(edit.operator), `EditOperator 48 × 48, rank ${edit.rank}`);
  const line = Deno.inspect(pipe);
  assert(line.startsWith("StableDiffusionModelEditingPipeline of "), line);
  assert(/sd1-mini\/unet.*, 32 × 32, \w+Scheduler, without a safety checker, no edits$/.test(line), line);
  pipe.edits.push(edit, { strength: 0.5 });
  assert(
    Deno.inspect(pipe).endsWith('\n  edit "A rose" -> "A blue rose", lambda 0.2, strength 0.5'),
    Deno.inspect(pipe),
  );
  assert(Deno.inspect(pipe.edits).startsWith("EditStack of 1 edit\n  0: rank "), Deno.inspect(pipe.edits));
  assert(/^UNet2DConditionModel of .*unet/.test(Deno.inspect(pipe.unet)), Deno.inspect(pipe.unet));

  const options = { numInferenceSteps: 1, generator: [7, 8] };
  const result = await pipe.generate(["a rose", "a cat"], options);
  assertEquals(Deno.inspect(result), "GenerateResult: 2 pictures of 32 × 32, seeds 7, 8, not checked");
  assertEquals(Deno.inspect(result.images[0]), "JimpImage 32 × 32");
  assertEquals(Object.keys(result), ["images", "nsfwContentDetected", "seeds"]);
  const array = await pipe.generate("a rose", { ...options, generator: 7, outputType: "array" });
  assertEquals(
    Deno.inspect(array),
    "GenerateResult: 1 picture of 32 × 32 as an array in 0…1, seeds 7, not checked",
  );
  const path: string = await Deno.makeTempFile({ suffix: ".png" });
  await result.images[0].write(path); // a path of type string type-checks
  assertEquals((await Deno.readFile(path)).subarray(1, 4), new TextEncoder().encode("PNG"));
  await Deno.remove(path);
});

Deno.test("byteText() names a number of bytes", () => {
  assertEquals([0, 4, 1023, 1024, 1536, 5 * 2 ** 20, 2 ** 30, 2 ** 50].map(byteText), [
    ...["0 B", "4 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "1.0 GiB", "1024.0 TiB"],
  ]);
});

Deno.test("the entry point for safetensors files loads no package for pictures", async () => {
  const entry = `${repository}/pipeline/checkpoint/safetensors/mod.ts`;
  const { modules } = JSON.parse((await runDeno(["info", "--json", entry])).out);
  const specifiers: string[] = modules.map(({ specifier }: { specifier: string }) => specifier);
  assert(specifiers.some((specifier) => specifier.endsWith("safetensors_file.ts")));
  assertEquals(specifiers.filter((specifier) => /jimp|engine\/gpu\.ts/.test(specifier)), []);
});
