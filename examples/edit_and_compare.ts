/**
 * Edits the model and lays pictures of the same seed side by side: roses turn blue, lemons stay.
 *
 *     deno run --allow-read=. --allow-write=. examples/edit_and_compare.ts
 */
import {
  encodePicture,
  fromJimp,
  pictureGrid,
  StableDiffusionModelEditingPipeline,
  TorchGenerator,
} from "@bluerose/bluerose";

using pipe = await StableDiffusionModelEditingPipeline.fromPretrained("models/pocket");
const prompts = ["a field of roses", "a lemon"];

async function generate() {
  const generator = prompts.map(() => new TorchGenerator(2));
  const { images } = await pipe.generate(prompts, { generator, guidanceScale: 5, numInferenceSteps: 12 });
  return images.map(fromJimp);
}

const before = await generate();
const report = await pipe.editModel("A pack of roses", "A pack of blue roses");
const after = await generate();

// one row per state of the model
const grid = pictureGrid([...before, ...after], { columns: prompts.length });
await Deno.writeFile("compare.png", await encodePicture(grid, "png"));
console.log(`edited in ${report.ms.toFixed(0)} ms, wrote compare.png`);
