/**
 * Compares the schedulers with the runs that tests/reference/scheduler_fuzz.py wrote:
 *
 *     deno run --allow-read=. tests/fuzz/schedulers.ts runs.safetensors
 *
 * Prints each configuration whose timesteps differ, or whose samples differ by more than 1e-5 of
 * their norm when plan and diffusers' formulas are both evaluated in float64: what remains is the
 * schedule and the coefficients.
 */
import { NOISE, OUTPUT, SAMPLE, schedulerFromConfig, TorchGenerator } from "../../schedulers/mod.ts";
import { readGoldens, relativeError } from "../goldens.ts";

const { tensors, note } = await readGoldens(Deno.args[0]);
const tolerance = 1e-5;
let different = 0, refused = 0, agreed = 0;
for (const key of Object.keys(note)) {
  const get = (name: string) => tensors.get(`${key}.${name}`)!.data as Float32Array;
  const { class: name, config, noise_seed } = note[key];
  const steps = Number(key.split(".")[1]);
  let complaint: string | undefined;
  try {
    complaint = compare({ ...config, _class_name: name }, { get, steps, noiseSeed: noise_seed });
  } catch (error) {
    refused++;
    console.log(`${key}: ${(error as Error).message}`);
    continue;
  }
  if (complaint === undefined) {
    agreed++;
    continue;
  }
  different++;
  console.log(`${key}: ${complaint}\n    ${name} ${JSON.stringify(config)}`);
}
console.log(`${agreed} agree, ${different} differ, ${refused} refused`);
Deno.exitCode = different + refused > 0 ? 1 : 0;

/** Where a run differs from diffusers', whose schedule and formulas are evaluated in float64. */
function compare(
  config: Record<string, unknown>,
  { get, steps, noiseSeed }: { get: (name: string) => Float32Array; steps: number; noiseSeed: number | null },
): string | undefined {
  const scheduler = schedulerFromConfig(config);
  const plan = scheduler.plan(steps);
  const expected = get("timesteps");
  if (plan.timesteps.length !== expected.length) return `${plan.timesteps.length} calls ≠ ${expected.length}`;
  // Timesteps of levels in between come of logarithms in float32.
  const away = plan.timesteps.findIndex((timestep, i) => Math.abs(timestep - expected[i]) > 1e-3);
  if (away >= 0) return `timestep ${away} is ${plan.timesteps[away]} ≠ ${expected[away]}`;
  const generator = noiseSeed === null ? undefined : new TorchGenerator(noiseSeed);
  const outputs = get("model_outputs"), previous = get("prev"), exact = get("exact"), start = get("sample");
  const size = start.length;
  const registers = Array.from({ length: plan.registers }, () => new Float64Array(size).fill(NaN));
  registers[SAMPLE].set(start);
  let worst = 0, call = 0, rounding = 0;
  for (const [i, { drawsNoise, combine }] of plan.steps.entries()) {
    registers[OUTPUT].set(outputs.subarray(i * size, (i + 1) * size));
    if (drawsNoise && generator) registers[NOISE].set(generator.randn([size]));
    for (const { target, terms, limited } of combine) {
      const sum = registers[target].map((_, k) =>
        terms.reduce((total, { register, coefficient }) => total + coefficient * registers[register][k], 0)
      );
      registers[target] = limited ? limit(sum, plan.nonlinear, scheduler.config) : sum;
    }
    const right = exact.subarray(i * size, (i + 1) * size);
    rounding = Math.max(rounding, relativeError(previous.subarray(i * size, (i + 1) * size), right));
    const error = relativeError(registers[SAMPLE], right);
    if (!(error <= worst)) [worst, call] = [error, i];
  }
  if (worst <= tolerance) return undefined;
  return `samples differ by ${
    worst.toExponential(2)
  } at call ${call} of ${plan.steps.length}, diffusers' own in f32 by ` +
    rounding.toExponential(2);
}

/** Clipping, or dynamic thresholding of each of two images. */
function limit(
  values: Float64Array<ArrayBuffer>,
  kind: string | null,
  config: Record<string, unknown>,
): Float64Array<ArrayBuffer> {
  const clamp = (x: number, bound: number) => Math.min(Math.max(x, -bound), bound);
  if (kind === "clip_sample") return values.map((x) => clamp(x, config.clip_sample_range as number));
  const half = values.length / 2;
  return Float64Array.from([0, 1].flatMap((image) => {
    const own = values.subarray(image * half, (image + 1) * half);
    const sorted = own.map(Math.abs).toSorted();
    const rank = (config.dynamic_thresholding_ratio as number) * (half - 1);
    const low = sorted[Math.floor(rank)], high = sorted[Math.ceil(rank)];
    const quantile = low + (high - low) * (rank - Math.floor(rank));
    const bound = Math.min(Math.max(quantile, 1), config.sample_max_value as number);
    return [...own].map((x) => clamp(x, bound) / bound);
  }));
}
