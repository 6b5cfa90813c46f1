import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  DDIMScheduler,
  DDPMScheduler,
  DEISMultistepScheduler,
  DPMSolverMultistepScheduler,
  DPMSolverSinglestepScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  HeunDiscreteScheduler,
  KDPM2AncestralDiscreteScheduler,
  KDPM2DiscreteScheduler,
  LCMScheduler,
  LMSDiscreteScheduler,
  PNDMScheduler,
  SAMPLE,
  SchedulerError,
  schedulerFromConfig,
  TorchGenerator,
  UniPCMultistepScheduler,
} from "../../schedulers/mod.ts";
import { relativeError } from "../goldens.ts";

const SD = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear", steps_offset: 1 };
const CLASSES = [
  DDIMScheduler,
  DDPMScheduler,
  DEISMultistepScheduler,
  DPMSolverSinglestepScheduler,
  KDPM2AncestralDiscreteScheduler,
  KDPM2DiscreteScheduler,
  DPMSolverMultistepScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  HeunDiscreteScheduler,
  LCMScheduler,
  LMSDiscreteScheduler,
  PNDMScheduler,
  UniPCMultistepScheduler,
];

/**
 * The SD 1.4 checkpoint's scheduler file, which leaves timestep_spacing and prediction_type out.
 */
const SD14 = {
  _class_name: "PNDMScheduler",
  ...SD,
  num_train_timesteps: 1000,
  set_alpha_to_one: false,
  skip_prk_steps: true,
  trained_betas: null,
  clip_sample: false,
};

Deno.test("every plan has setTimesteps()'s timesteps, writes the sample last, and uses declared registers only", () => {
  for (const Class of CLASSES) {
    for (const steps of [1, 2, 5, 20, 50]) {
      const scheduler = Class.fromConfig(SD14);
      const plan = scheduler.plan(steps, { eta: 0.5 });
      assertEquals(scheduler.timesteps, [], "plan() changes nothing");
      scheduler.setTimesteps(steps);
      assertEquals([...plan.timesteps], scheduler.timesteps);
      assertEquals(plan.steps.map(({ timestep }) => timestep), scheduler.timesteps);
      assertEquals(plan.initNoiseSigma, scheduler.initNoiseSigma);
      for (const { combine } of plan.steps) {
        assertEquals(combine.at(-1)!.target, SAMPLE);
        for (const { target, terms } of combine) {
          for (const register of [target, ...terms.map(({ register }) => register)]) assert(register < plan.registers);
        }
      }
    }
  }
});

Deno.test("the number of model calls: PNDM n + 1, PNDM with Runge-Kutta n + 9, Heun and DPM2 2n − 1, all others n", () => {
  const callsOf = (Class: typeof CLASSES[number], config = {}) => {
    return Class.fromConfig({ ...SD, ...config }).plan(50).steps.length;
  };
  for (const Class of CLASSES) {
    if (Class === PNDMScheduler) continue;
    const { order } = Class.fromConfig();
    assertEquals(callsOf(Class), order === 2 ? 99 : 50, Class.name);
  }
  assertEquals(callsOf(PNDMScheduler, { skip_prk_steps: true }), 51);
  assertEquals(callsOf(PNDMScheduler), 59);
  const twofold = CLASSES.filter((Class) => Class.fromConfig().order === 2);
  assertEquals(twofold, [KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, HeunDiscreteScheduler]);
});

Deno.test("predOriginalSample is x_0 if the model predicts exactly the noise that was added", () => {
  const original = new TorchGenerator(1).randn([32]), noise = new TorchGenerator(2).randn([32]);
  for (const Class of CLASSES) {
    if (Class === LCMScheduler) continue; // its estimate is a blend of x_0 and the sample
    for (const prediction_type of ["epsilon", "v_prediction"]) {
      const scheduler = Class.fromConfig({ ...SD, prediction_type, clip_sample: false });
      scheduler.setTimesteps(10);
      const [timestep] = scheduler.timesteps;
      const { signal, noise: sigma } = scheduler.plan(10).steps[0].level;
      const alpha = signal / Math.hypot(signal, sigma), beta = sigma / Math.hypot(signal, sigma);
      const output = prediction_type === "epsilon" ? noise : noise.map((e, i) => alpha * e - beta * original[i]);
      const sample = scheduler.addNoise(original, noise, timestep);
      const { predOriginalSample } = scheduler.step(output, timestep, sample);
      // Rounding the sample to float32 is amplified by σ/α ≈ 15 at the noisy end.
      assert(relativeError(predOriginalSample, original) < 15 * 2 ** -22, `${Class.name}, ${prediction_type}`);
    }
  }
});

Deno.test("addNoise() uses training levels outside a run, and the run's levels inside it", () => {
  const one = Float32Array.of(1), nothing = Float32Array.of(0);
  const ddim = DDIMScheduler.fromConfig(SD);
  const [alphaBar] = ddim.addNoise(one, nothing, 500).map((x) => x ** 2);
  assert(Math.abs(alphaBar - ddim.alphasCumprod[500]) < 1e-6);
  assertThrows(() => ddim.addNoise(one, nothing, 1000), SchedulerError, "1000");
  const euler = EulerDiscreteScheduler.fromConfig({ ...SD, use_karras_sigmas: true });
  euler.setTimesteps(7);
  for (const { timestep, level } of euler.plan(7).steps) {
    assertEquals(euler.addNoise(nothing, one, timestep)[0], Math.fround(level.noise));
  }
});

Deno.test("step() throws before a run starts, out of order, and after its end", () => {
  const zeros = new Float32Array(16);
  for (const Class of CLASSES) {
    const scheduler = Class.fromConfig(SD14);
    assertThrows(() => scheduler.step(zeros, 1, zeros), SchedulerError, "setTimesteps()");
    scheduler.setTimesteps(5);
    assertThrows(() => scheduler.step(zeros, 12345, zeros), SchedulerError, "12345");
    assertThrows(() => scheduler.step(new Float32Array(8), scheduler.timesteps[0], zeros), SchedulerError, "8 ≠ 16");
    const run = () => scheduler.timesteps.forEach((timestep) => scheduler.step(zeros, timestep, zeros));
    run();
    assertThrows(() => scheduler.step(zeros, scheduler.timesteps.at(-1)!, zeros), SchedulerError, "steps are done");
    scheduler.setTimesteps(5);
    run();
  }
});

Deno.test("one-step samplers may start in the middle of a run; multistep samplers throw", () => {
  const zeros = new Float32Array(16);
  for (const Class of CLASSES) {
    const scheduler = Class.fromConfig(SD14);
    scheduler.setTimesteps(8);
    const begin = () => scheduler.step(zeros, scheduler.timesteps[4], zeros);
    const needsHistory = scheduler.plan(8).steps[4].combine.some(({ terms }, i, all) =>
      terms.some(({ register }) => register > 2 && !all.slice(0, i).some(({ target }) => target === register))
    );
    if (needsHistory) assertThrows(begin, SchedulerError, "calls before it");
    else assert(begin().prevSample);
  }
});

Deno.test("step counts outside of 1 … num_train_timesteps throw, with both numbers", () => {
  for (const Class of CLASSES) {
    for (const steps of [0, -1, 2.5, NaN, 1001]) {
      const error = assertThrows(() => Class.fromConfig(SD14).setTimesteps(steps), SchedulerError, "1000");
      assert(error instanceof RangeError && error.message.includes(String(steps)));
      assertEquals((error as SchedulerError).details.steps, steps);
    }
  }
  assertThrows(() => LCMScheduler.fromConfig().setTimesteps(51), SchedulerError, "original_inference_steps = 50");
  assertThrows(() => PNDMScheduler.fromConfig().setTimesteps(3), SchedulerError, "Runge-Kutta");
  assertThrows(() => DDIMScheduler.fromConfig(SD).setTimesteps(1000), SchedulerError, "steps_offset 1");
  assertThrows(() => DDIMScheduler.fromConfig(SD).plan(10, { eta: -1 }), SchedulerError, "eta");
});

Deno.test("unsupported configuration values throw and list the supported ones", () => {
  const cases = [
    [DDIMScheduler, "beta_schedule", "sigmoid", "squaredcos_cap_v2"],
    [DDIMScheduler, "timestep_spacing", "random", "trailing"],
    [PNDMScheduler, "prediction_type", "sample", "v_prediction"],
    [EulerAncestralDiscreteScheduler, "prediction_type", "sample", "v_prediction"],
    [EulerDiscreteScheduler, "interpolation_type", "cubic", "log_linear"],
    [DPMSolverMultistepScheduler, "algorithm_type", "rk45", "sde-dpmsolver++"],
    [DPMSolverMultistepScheduler, "solver_type", "bh3", "midpoint"],
    [UniPCMultistepScheduler, "solver_type", "bh3", "bh1"],
    [DPMSolverMultistepScheduler, "solver_order", 4, "1, 2, 3"],
    [DPMSolverMultistepScheduler, "variance_type", "learned", "null"],
    [DDIMScheduler, "beta_start", "0.1", "number"],
    [DDIMScheduler, "clip_sample", 1, "boolean"],
    [DDIMScheduler, "trained_betas", 1, "list"],
    [DDIMScheduler, "trained_betas", [0.1, 0.2], "1000"],
    [DDIMScheduler, "num_train_timesteps", 0.5, "whole"],
    [DDIMScheduler, "beta_end", 2, "0 … 1"],
  ] as const;
  for (const [Class, key, value, known] of cases) {
    assertThrows(() => Class.fromConfig({ [key]: value }), SchedulerError, known);
  }
  const sde = { algorithm_type: "sde-dpmsolver++", solver_order: 3 };
  assertThrows(() => DPMSolverMultistepScheduler.fromConfig(sde), SchedulerError, "solver_order 2");
});

Deno.test("an epsilon model that starts from pure noise throws instead of returning NaN", () => {
  const config = { ...SD, clip_sample: false, timestep_spacing: "trailing", rescale_betas_zero_snr: true };
  assertThrows(() => DDIMScheduler.fromConfig(config).setTimesteps(5), SchedulerError, "finite");
  DDIMScheduler.fromConfig({ ...config, prediction_type: "v_prediction" }).setTimesteps(5);
});

Deno.test("fromConfig() of another class keeps explicit keys and uses its own defaults for the rest", () => {
  const pndm = PNDMScheduler.fromConfig(SD14);
  assertEquals(pndm.config.timestep_spacing, "leading");
  const lms = LMSDiscreteScheduler.fromConfig(pndm.config);
  assertEquals(lms.config.timestep_spacing, "linspace");
  assertEquals(lms.config.beta_end, 0.012);
  assertEquals(lms.config.steps_offset, 1);
  // Through a class that has no such key, and back.
  const ddim = DDIMScheduler.fromConfig(lms.config);
  assertEquals([ddim.config.clip_sample, ddim.config.timestep_spacing], [false, "leading"]);
  assertEquals(PNDMScheduler.fromConfig(ddim.config).config.skip_prk_steps, true);
  // What was changed on the way is said, and overrides are said even where they repeat a default.
  const changed = EulerDiscreteScheduler.fromConfig({ ...pndm.config, timestep_spacing: "trailing" });
  assertEquals(changed.config.timestep_spacing, "trailing");
  const overridden = EulerDiscreteScheduler.fromConfig(pndm.config, { timestep_spacing: "leading" });
  assertEquals(overridden.config.timestep_spacing, "leading");
});

Deno.test("a saved configuration holds every key", () => {
  const saved = JSON.parse(JSON.stringify(PNDMScheduler.fromConfig(SD14)));
  assertEquals(saved._class_name, "PNDMScheduler");
  assertEquals(LMSDiscreteScheduler.fromConfig(saved).config.timestep_spacing, "leading");
  for (const Class of CLASSES) {
    const scheduler = Class.fromConfig(SD14);
    const copy = schedulerFromConfig(JSON.parse(JSON.stringify(scheduler)));
    assert(copy instanceof Class);
    assertEquals(copy.plan(12), scheduler.plan(12));
  }
});

Deno.test("solver types of related solvers map to the default one", () => {
  assertEquals(DPMSolverMultistepScheduler.fromConfig({ solver_type: "bh2" }).config.solver_type, "midpoint");
  assertEquals(DPMSolverMultistepScheduler.fromConfig({ algorithm_type: "deis" }).config.algorithm_type, "dpmsolver++");
  assertEquals(UniPCMultistepScheduler.fromConfig({ solver_type: "heun" }).config.solver_type, "bh2");
});

Deno.test("the plan names clipping, only for classes that support it", () => {
  const clipping = { ...SD, clip_sample: true, thresholding: false };
  assertEquals(DDIMScheduler.fromConfig(clipping).plan(5).nonlinear, "clip_sample");
  assertEquals(DDIMScheduler.fromConfig({ ...clipping, thresholding: true }).plan(5).nonlinear, "thresholding");
  assertEquals(EulerDiscreteScheduler.fromConfig(clipping).plan(5).nonlinear, null);
  const unused = { thresholding: true, predict_x0: false };
  assertEquals(UniPCMultistepScheduler.fromConfig(unused).plan(5).nonlinear, null);
});

Deno.test("noise comes from the generator or from the caller, not both, and is redrawn with eta", () => {
  const sample = new TorchGenerator(1).randn([16]), output = new TorchGenerator(2).randn([16]);
  const stepOf = (options: Parameters<DDIMScheduler["step"]>[3]) => {
    const scheduler = DDIMScheduler.fromConfig({ ...SD, clip_sample: false });
    scheduler.setTimesteps(10);
    return scheduler.step(output, scheduler.timesteps[0], sample, options).prevSample;
  };
  const noise = new TorchGenerator(3).randn([16]);
  assertEquals(stepOf({ eta: 1, generator: new TorchGenerator(3) }), stepOf({ eta: 1, noise }));
  assertEquals(stepOf({ generator: new TorchGenerator(3) }), stepOf({}));
  assert(relativeError(stepOf({ eta: 1 }), stepOf({ eta: 1 })) > 1e-3);
  assertThrows(() => stepOf({ eta: 1, noise, generator: new TorchGenerator(3) }), SchedulerError, "one of them");
  assertThrows(() => stepOf({ eta: 1, noise: noise.subarray(1) }), SchedulerError, "15 ≠ 16");
});

Deno.test("a last Karras interval of length zero leaves the sample unchanged, for every solver", () => {
  for (const solver_type of ["midpoint", "heun"]) {
    for (const solver_order of [1, 2, 3]) {
      const config = { ...SD, use_karras_sigmas: true, solver_type, solver_order };
      const last = DPMSolverMultistepScheduler.fromConfig(config).plan(20).steps.at(-1)!;
      assertEquals(last.combine.at(-1)!.terms, [{ register: SAMPLE, coefficient: 1 }]);
    }
  }
});

Deno.test("schedulerFromConfig() makes the class that the configuration names", () => {
  for (const Class of CLASSES) assert(schedulerFromConfig({ ...SD14, _class_name: Class.name }) instanceof Class);
  assertThrows(() => schedulerFromConfig({ _class_name: "VQDiffusionScheduler" }), SchedulerError, "DDIMScheduler");
  assertThrows(() => schedulerFromConfig({ _class_name: "toString" }), SchedulerError, "toString");
  assertThrows(() => schedulerFromConfig({}), SchedulerError, "undefined");
});
