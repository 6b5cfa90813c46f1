import { assert, assertEquals } from "@std/assert";
import { measureCompilation } from "../../../bench/measure/compilation.ts";
import { compilationText } from "../../../bench/report/text.ts";
import { compileMs } from "../../../bench/report/report.ts";
import { pocket } from "../../paths.ts";

Deno.test("measureCompilation() lists every pipeline from loading to an edit, the most expensive first", async () => {
  const record = await measureCompilation(pocket);
  const { variants } = record;
  assertEquals([...new Set(variants.map(({ part }) => part))].sort(), [
    "UNet and sampler",
    "VAE decoder",
    "edit",
    "loading",
    "text encoder",
  ]);
  for (const kernel of ["matmul", "conv2d_3x3", "group_norm_affine"]) {
    assert(variants.some((each) => each.kernel.startsWith(kernel.split("_")[0])), kernel);
  }
  const costs = variants.map(compileMs);
  assertEquals(costs, costs.toSorted((a, b) => b - a));
  assert(variants.every(({ createMs, firstRunMs, parameters }) => createMs > 0 && firstRunMs >= 0 && parameters > 0));
  const text = compilationText(record, { shown: 2 });
  assert(text.includes(`${record.pipelines} pipelines`) && text.endsWith("parameter sets)"), text);
});
