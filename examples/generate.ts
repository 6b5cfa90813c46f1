/**
 * Generates one picture with the embedded model.
 *
 *     deno run --allow-read=. --allow-write=. examples/generate.ts
 */
import { StableDiffusionPipeline, TorchGenerator } from "@bluerose/bluerose";

using pipe = await StableDiffusionPipeline.fromPretrained("models/pocket");
const { images } = await pipe.generate("a field of roses", {
  numInferenceSteps: 12,
  guidanceScale: 5,
  generator: new TorchGenerator(7), // the same seed gives the same picture
});
await images[0].write("roses.png");
console.log("wrote roses.png");
