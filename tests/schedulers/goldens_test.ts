import { assert, assertEquals } from "@std/assert";
import {
  NOISE,
  OUTPUT,
  SAMPLE,
  type Scheduler,
  schedulerFromConfig,
  type SchedulerPlan,
  TorchGenerator,
} from "../../schedulers/mod.ts";
import { loadGoldens, relativeError } from "../goldens.ts";

/** The bound for a trajectory that feeds on its own outputs. */
const TOLERANCE = 1e-5;

/** A run of the real diffusers. */
interface Golden {
  kind: string;
  steps: number;
  config: Record<string, unknown>;
  initNoiseSigma: number;
  noiseSeed: number | null;
  timesteps: ArrayLike<number>;
  sample: Float32Array;
  /** The model's input at one of the calls. */
  scaledInput: { call: number; values: Float32Array };
  outputs: Float32Array[];
  prev: Float32Array[];
  batchSize: number;
}

/** Configurations whose author was another class: what it left at its defaults is not handed on. */
function configOf({ class: name, config }: { class: string; config: Record<string, unknown> }) {
  const { _from: origin, ...said } = config;
  const handedOn = origin ? schedulerFromConfig({ ...said, _class_name: origin }).config : said;
  return { ...handedOn, _class_name: name };
}

function rows(data: Float32Array, count: number): Float32Array[] {
  const size = data.length / count;
  return Array.from({ length: count }, (_, i) => data.subarray(i * size, (i + 1) * size));
}

async function goldens(): Promise<Golden[]> {
  const shared = await loadGoldens("schedulers");
  const own = await loadGoldens("reference/schedulers");
  const newer = await loadGoldens("reference/schedulers_newer");
  return [shared, own, newer].flatMap(({ tensors, note }) =>
    Object.keys(note).map((key) => {
      const get = (name: string) => tensors.get(`${key}.${name}`)!.data as Float32Array;
      const timesteps = get("timesteps");
      const calls = timesteps.length;
      const [kind, steps] = key.split(".");
      const single = tensors.has(`${key}.prev`);
      return {
        kind,
        steps: Number(steps),
        config: configOf(note[key]),
        initNoiseSigma: note[key].init_noise_sigma,
        noiseSeed: note[key].noise_seed,
        timesteps,
        sample: single ? get("sample") : get("sample.0"),
        scaledInput: { call: single ? calls - 1 : 0, values: get(single ? "scaled_input" : "scaled_input.0") },
        outputs: rows(get("model_outputs"), calls),
        prev: single ? rows(get("prev"), calls) : Array.from({ length: calls }, (_, i) => get(`prev.${i}`)),
        batchSize: single ? 2 : 1,
      };
    })
  );
}

const GOLDENS = await goldens();
/** The shared goldens' note leaves η out: their noisy DDIM runs were made with 0.7. */
const etaOf = ({ kind }: Golden) => kind === "ddim_eta" ? 0.7 : 0;
const generatorOf = ({ noiseSeed }: Golden) => noiseSeed === null ? undefined : new TorchGenerator(noiseSeed);

function begin(golden: Golden): Scheduler {
  const scheduler = schedulerFromConfig(golden.config);
  scheduler.setTimesteps(golden.steps);
  return scheduler;
}

function assertTrajectory(samples: ArrayLike<number>[], golden: Golden, rounding: number[] = []): void {
  for (const [i, sample] of samples.entries()) {
    const error = relativeError(sample, golden.prev[i]);
    assert(
      error <= Math.max(TOLERANCE, rounding[i] ?? 0),
      `${golden.kind}, ${golden.steps} steps: ${error} at call ${i}`,
    );
  }
}

/** A plan carried out in float64, with nothing of the scheduler's own machinery. */
function interpret(plan: SchedulerPlan, golden: Golden): { samples: Float64Array[]; rounding: number[] } {
  const generator = generatorOf(golden);
  const registers = Array.from({ length: plan.registers }, () => new Float64Array(golden.sample.length).fill(NaN));
  registers[SAMPLE].set(golden.sample);
  const norm = (values: Float64Array) => Math.hypot(...values);
  const samples: Float64Array[] = [], rounding: number[] = [];
  let rounded = 0;
  for (const [call, step] of plan.steps.entries()) {
    registers[OUTPUT].set(golden.outputs[call]);
    if (step.drawsNoise && generator) registers[NOISE].set(generator.randn([golden.sample.length]));
    for (const { target, terms } of step.combine) {
      const sum = registers[target].map((_, i) =>
        terms.reduce((sum, { register, coefficient }) => sum + coefficient * registers[register][i], 0)
      );
      const size = terms.reduce(
        (sum, { register, coefficient }) => sum + Math.abs(coefficient) * norm(registers[register]),
        0,
      );
      rounded += 2 ** -24 * size / norm(sum);
      registers[target] = sum;
    }
    samples.push(registers[SAMPLE]);
    rounding.push(rounded);
  }
  return { samples, rounding };
}

Deno.test("setTimesteps() gives diffusers' timesteps and first standard deviation", () => {
  for (const golden of GOLDENS) {
    const scheduler = begin(golden);
    const timesteps = scheduler.timesteps;
    assertEquals(timesteps.length, golden.timesteps.length, golden.kind);
    for (const [i, timestep] of timesteps.entries()) {
      // Timesteps of spaced levels come of float32 logarithms: one unit in their last place (2.4e-7
      // from 2 to 4) moves time by that over the slope of log σ, which is at least 0.004 a
      // timestep. Levels between two others come of four such values. All other timesteps are
      // equal.
      const { _class_name: name, use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas } = golden.config;
      const isBetween = (name as string).startsWith("KDPM2");
      const slack =
        (isBetween ? 4 * 2.4e-7 : use_karras_sigmas || use_exponential_sigmas || use_beta_sigmas ? 2.4e-7 : 0) / 0.004;
      const away = Math.abs(timestep - golden.timesteps[i]);
      assert(away <= slack, `${golden.kind}, ${golden.steps} steps: ${timestep} ≠ ${golden.timesteps[i]}`);
    }
    const sigma = scheduler.initNoiseSigma;
    assert(Math.abs(sigma - golden.initNoiseSigma) <= 2e-7 * sigma, `${golden.kind}: σ ${sigma}`);
  }
});

Deno.test("step() follows diffusers' trajectories to 1e-5 on its own outputs", () => {
  for (const golden of GOLDENS) {
    const scheduler = begin(golden);
    const generator = generatorOf(golden);
    const plan = scheduler.plan(golden.steps, { eta: etaOf(golden) });
    // Rounding registers to float32 counts where large terms cancel, as in the cosine schedule.
    const rounding = plan.nonlinear ? [] : interpret(plan, golden).rounding;
    let sample = golden.sample;
    const samples = scheduler.timesteps.map((timestep, call) => {
      const input = scheduler.scaleModelInput(sample, timestep);
      if (call === golden.scaledInput.call) {
        const error = relativeError(input, golden.scaledInput.values);
        const bound = Math.max(TOLERANCE, rounding[call - 1] ?? 0);
        assert(error <= bound, `${golden.kind}, ${golden.steps} steps: model input ${error}`);
      }
      const options = { eta: etaOf(golden), generator, batchSize: golden.batchSize };
      return sample = scheduler.step(golden.outputs[call], timestep, sample, options).prevSample;
    });
    assertTrajectory(samples, golden, rounding);
  }
});

Deno.test("plan(), executed in float64, follows diffusers' trajectories to 1e-5", () => {
  let linear = 0;
  for (const golden of GOLDENS) {
    const plan = schedulerFromConfig(golden.config).plan(golden.steps, { eta: etaOf(golden) });
    if (plan.nonlinear) continue;
    linear++;
    assertTrajectory(interpret(plan, golden).samples, golden);
  }
  assert(linear > GOLDENS.length / 2);
});
