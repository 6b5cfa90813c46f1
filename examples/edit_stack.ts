/**
 * Solves two edits, stacks them, and generates with the second at several strengths.
 *
 *     deno run --allow-read=. --allow-write=. examples/edit_stack.ts
 */
import { ModelEdit, StableDiffusionModelEditingPipeline, TorchGenerator } from "@bluerose/bluerose";

using pipe = await StableDiffusionModelEditingPipeline.fromPretrained("models/pocket");
using roses = await ModelEdit.solve([{ source: "A rose", destination: "A blue rose" }], { lamb: 0.1 }, pipe);
using cars = await ModelEdit.solve([{ source: "A car", destination: "A red car" }], { lamb: 0.1 }, pipe);

pipe.edits.push(roses).push(cars);
for (const strength of [0, 0.5, 1]) {
  pipe.edits.setStrength(cars, strength); // 0 leaves the model alone, 1 is the edit as solved
  const { images } = await pipe.generate("a car", {
    generator: new TorchGenerator(3),
    guidanceScale: 5,
    numInferenceSteps: 12,
  });
  await images[0].write(`car-${strength}.png` as "car.png");
  console.log(`wrote car-${strength}.png`);
}

pipe.edits.toggle(roses, false); // skips an edit without removing it
pipe.edits.clear(); // the model is exactly as it was loaded
