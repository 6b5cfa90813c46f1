/**
 * Measures what f16 arithmetic changes: the predicted noise and the pictures of a model, beside f32
 * on the same device.
 *
 *     deno run -P=bench --no-lock bench/measure/f16_accuracy.ts [MODEL] [--steps N] [--dawn]
 *       [--gpu-forms]
 *
 * For eight prompts it prints ‖f16 − f32‖ / ‖f32‖ of one guided prediction of the UNet, and the
 * PSNR of the finished pictures. Default: the embedded model, 20 steps.
 *
 * `--gpu-forms` predicts in the forms that kernels have on GPUs with 255 registers, which include
 * attention in one pass in f16, and draws no pictures.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { findDawn } from "./dawn.ts";
import { psnr, relativeError } from "../oracles/numbers.ts";

const prompts = [
  "a red rose",
  "a field of roses",
  "a blue rose in a vase",
  "a rose in the snow",
  "a yellow tulip",
  "a garden at night",
  "white flowers on a table",
  "a rose made of glass",
];
const timestep = 501;

/** What a model on one device computes for a prompt. */
interface Result {
  readonly noise: Float32Array;
  /** Absent where no pictures are drawn. */
  readonly picture?: Float32Array;
}

async function resultOf(
  pipe: StableDiffusionPipeline,
  { prompt, seed, steps, hasGpuForms }: { prompt: string; seed: number; steps: number; hasGpuForms: boolean },
): Promise<Result> {
  const { gpu, unet } = pipe;
  const side = unet.config.sampleSize ?? 64, shape = [1, unet.config.inChannels, side, side];
  const ids = ["", prompt].map((text) => pipe.tokenizer.encode(text, { padding: "max_length" }));
  using embeddings = gpu.scope(() => pipe.textEncoder.forward(ids).lastHiddenState);
  using context = unet.prepareContext(embeddings);
  using latents = Tensor.from(gpu, new Float32Array(new TorchGenerator(seed).randn(shape)), shape);
  const predict = () => gpu.scope(() => unet.forward(concat([latents, latents], 0), timestep, context));
  using noise = hasGpuForms ? gpu.context.describedAs({ deviceClass: "amd" }, predict) : predict();
  if (hasGpuForms) return { noise: await noise.data() };
  const { images } = await pipe.generate(prompt, {
    numInferenceSteps: steps,
    generator: new TorchGenerator(seed),
    outputType: "array",
  });
  return { noise: await noise.data(), picture: Float32Array.from(images) };
}

const pictureText = (decibels: number | undefined) =>
  decibels === undefined ? "" : `   picture ${decibels.toFixed(1)} dB`;

if (import.meta.main) {
  const args = parseArgs(Deno.args, { string: ["steps"], boolean: ["dawn", "gpu-forms"], default: { steps: "20" } });
  const model = `${args._[0] ?? new URL("../../models/pocket/", import.meta.url).pathname}`;
  const { gpu: dawn, missing } = args.dawn ? await findDawn() : {};
  if (missing !== undefined) throw new Error(missing);
  const steps = Number(args.steps);
  const load = async (arithmetic: "f32" | "f16") => {
    const gpu = await Gpu.request({ arithmetic, gpu: dawn });
    return await StableDiffusionPipeline.fromPretrained(model, { gpu, safetyChecker: null });
  };
  const whole = await load("f32"), half = await load("f16");
  console.log(`${half.gpu.info.name}, ${steps} steps`);
  let worst = 0, least = Infinity;
  for (const [seed, prompt] of prompts.entries()) {
    const options = { prompt, seed, steps, hasGpuForms: args["gpu-forms"] };
    const expected = await resultOf(whole, options), rounded = await resultOf(half, options);
    const noise = relativeError(rounded.noise, expected.noise);
    const decibels = expected.picture && rounded.picture ? psnr(rounded.picture, expected.picture) : undefined;
    console.log(`${prompt.padEnd(28)}noise ${noise.toExponential(1)}${pictureText(decibels)}`);
    worst = Math.max(worst, noise);
    least = Math.min(least, decibels ?? Infinity);
  }
  console.log(`worst: noise ${worst.toExponential(1)}${pictureText(least < Infinity ? least : undefined)}`);
  Deno.exit(0); // Dawn keeps the process alive
}
