/**
 * Prints the memory that full-size models take on a typical GPU, as `bluerose inspect` predicts it,
 * without the models and without the GPU:
 *
 *     deno run -P=bench bench/measure/predicted_memory.ts
 *
 * @module
 */
import { predictMemory } from "../../pipeline/inspection.ts";
import { hollowCheckpoint } from "./hollow_checkpoint.ts";

if (import.meta.main) {
  const mib = (bytes = NaN) => `${Math.round(bytes / 2 ** 20)}`.padStart(9);
  console.log("MiB                            weights denoising  decoding   at most  reserved");
  for (const model of ["sd14", "sdxl"] as const) {
    const tree = await hollowCheckpoint(model);
    for (const side of [512, 768, 1024]) {
      for (const activations of ["f32", "f16"] as const) {
        const taken = await predictMemory(tree, { height: side, width: side, activations });
        const { weightsBytes, denoisingBytes, decodingBytes, peakBytes, reservedBytes } = taken;
        const figures = [weightsBytes, denoisingBytes, decodingBytes.whole, peakBytes, reservedBytes];
        console.log(`${model} ${side}² activations ${activations}`.padEnd(28) + figures.map(mib).join(" "));
      }
    }
  }
}
