import { assertEquals } from "@std/assert";
import { hollowCheckpoint } from "../../../bench/measure/hollow_checkpoint.ts";
import { shapesOf } from "../../../bench/cases/sd14.ts";
import { openWeights } from "../../../pipeline/checkpoint/safetensors/weight_files.ts";

Deno.test("the hollow checkpoint has every tensor of Stable Diffusion 1.4, filled with zeros", async () => {
  const tree = await hollowCheckpoint();
  for (
    const [part, baseName] of [
      ["unet", "diffusion_pytorch_model"],
      ["vae", "diffusion_pytorch_model"],
      ["text_encoder", "model"],
    ] as const
  ) {
    using weights = await openWeights(tree.subtree(part), baseName);
    const shapes = new Map([...weights.tensors].map(([name, { shape }]) => [name, shape]));
    assertEquals(shapes, shapesOf(part));
    const [name, shape] = [...shapes].find(([, shape]) => shape.length === 1)!;
    assertEquals(await weights.float32(name), new Float32Array(shape[0]));
  }
});
