/**
 * A scheduler of your own: deterministic DDIM with the quadratic timesteps of its paper
 * (arXiv 2010.02502, appendix D.2), which spend more steps near the clean image.
 *
 *     deno run --allow-read=. --allow-write=. examples/custom_scheduler.ts
 */
import { StableDiffusionPipeline, TorchGenerator } from "@bluerose/bluerose";
import {
  type BaseConfig,
  COMMON_DEFAULTS,
  OUTPUT,
  type PlanStep,
  SAMPLE,
  Scheduler,
  type SchedulerConfig,
} from "@bluerose/bluerose/schedulers";

class QuadraticDDIMScheduler extends Scheduler<BaseConfig> {
  constructor(config: SchedulerConfig) {
    const choices = { prediction_type: ["epsilon"] };
    super({ name: "QuadraticDDIMScheduler", defaults: COMMON_DEFAULTS, choices }, config, {});
  }

  /** One entry per model call: what the model is given, and how its output moves the sample. */
  protected override build(count: number): PlanStep[] {
    const last = this.alphasCumprod.length - 1;
    const timesteps = Array.from({ length: count }, (_, i) => Math.round(last * ((count - i) / count) ** 2));
    return timesteps.map((timestep, i) => {
      const alphaBar = this.alphasCumprod[timestep];
      const nextAlphaBar = i + 1 < count ? this.alphasCumprod[timesteps[i + 1]] : 1;
      const [alpha, sigma] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)];
      const [nextAlpha, nextSigma] = [Math.sqrt(nextAlphaBar), Math.sqrt(1 - nextAlphaBar)];
      return {
        timestep,
        inputScale: 1,
        level: { signal: alpha, noise: sigma },
        drawsNoise: false,
        // x0 = (x − σ ε) / α
        original: [
          { register: SAMPLE, coefficient: 1 / alpha },
          { register: OUTPUT, coefficient: -sigma / alpha },
        ],
        // x' = α' x0 + σ' ε
        combine: [{
          target: SAMPLE,
          terms: [
            { register: SAMPLE, coefficient: nextAlpha / alpha },
            { register: OUTPUT, coefficient: nextSigma - nextAlpha * sigma / alpha },
          ],
        }],
      };
    });
  }
}

using pipe = await StableDiffusionPipeline.fromPretrained("models/pocket");
pipe.scheduler = new QuadraticDDIMScheduler(pipe.scheduler.config);
const { images } = await pipe.generate("a field of roses", {
  numInferenceSteps: 12,
  guidanceScale: 5,
  generator: new TorchGenerator(7),
});
await images[0].write("quadratic.png");
console.log("wrote quadratic.png");
