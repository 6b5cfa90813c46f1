import { assert, assertEquals } from "@std/assert";
import { kernelCases } from "../../../bench/cases/cases.ts";
import { unetShapes } from "../../../bench/cases/model_shapes.ts";
import { configs, shapesOf } from "../../../bench/cases/sd14.ts";
import { taskFlops } from "../../../bench/cases/task.ts";
import {
  countTasks,
  guidedSizes,
  guidedTasks,
  guidedXLTasks,
  mostCommonCount,
} from "../../../bench/cases/unet_shapes.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { openWeights } from "../../../pipeline/checkpoint/safetensors/weight_files.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import { UNet2DConditionModel } from "../../../pipeline/models/unet.ts";
import { gpuTest } from "../../gpu.ts";
import { pocket, repository } from "../../paths.ts";

Deno.test("the table of a guided step equals the count over the UNet's weights", () => {
  assertEquals(guidedTasks, countTasks(shapesOf("unet"), configs.unet, guidedSizes));
});

const sd14 = `${repository}/../shared/sd14/unet/config.json`;
const hasSd14 = await Deno.stat(sd14).then(() => true, () => false);
Deno.test({
  name: `the table is that of Stable Diffusion 1.4's own config${
    hasSd14 ? "" : " [skipped: ../shared/sd14 is not there]"
  }`,
  ignore: !hasSd14,
  fn: async () => {
    const config = JSON.parse(await Deno.readTextFile(sd14));
    assertEquals(guidedTasks, countTasks(unetShapes(config), config, guidedSizes));
  },
});

Deno.test("the most common tasks come first, and all are cases of the bench", () => {
  const counts = guidedTasks.map(({ perStep }) => perStep);
  assertEquals(counts, counts.toSorted((a, b) => b - a));
  const cases = kernelCases.filter(({ perStep }) => perStep !== undefined);
  assertEquals(cases.map(({ task, perStep }) => ({ task, perStep })), guidedTasks.slice());
  assertEquals(cases.filter(({ peersOnRequest }) => !peersOnRequest).length, mostCommonCount);
});

Deno.test("the most common shapes of SDXL's step are cases of the bench, and are those of its two lower levels", () => {
  const cases = kernelCases.filter(({ shape }) => shape.startsWith("sdxl "));
  assertEquals(cases.map(({ task }) => task), guidedXLTasks.map(({ task }) => task));
  assertEquals(cases.length, mostCommonCount);
  // 60 layers at 32 × 32: four square projections of attn1, two of attn2; and proj_in, proj_out.
  const [{ task, perStep }] = guidedXLTasks;
  assertEquals(task, { op: "matmul", m: 2048, k: 1280, n: 1280, transposeB: true });
  assertEquals(perStep, 60 * 6 + 6 * 2);
});

gpuTest("counting by weights finds all multiplications of a UNet step", async (gpu) => {
  const folder = `${pocket}/unet`;
  const config = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
  using weights = await openWeights(await directoryTree(folder), "diffusion_pytorch_model");
  const shapes = new Map([...weights.tensors].map(([name, { shape }]) => [name, shape]));
  const [batch, side, tokens] = [2, 16, 77];
  const counted = countTasks(shapes, config, { batch, side, tokens });

  using unet = await UNet2DConditionModel.fromPretrained(folder, { gpu });
  using sample = Tensor.from(gpu, new Float32Array(batch * 4 * side ** 2), [batch, 4, side, side]);
  using states = Tensor.from(gpu, new Float32Array(batch * tokens * 128), [batch, tokens, 128]);
  using context = unet.prepareContext(states);
  using times = unet.embedTimesteps([500, 500]);
  const step = gpu.tally(() => unet.forward(sample, times, context)[Symbol.dispose]());
  const flops = counted.reduce((sum, { task, perStep }) => sum + perStep * taskFlops(task), 0);
  // Norms and activations come on top.
  assert(flops < step.flops && step.flops < 1.02 * flops, `${flops} counted, ${step.flops} done`);
});
