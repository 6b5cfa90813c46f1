import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { memoryTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import { CheckpointError } from "../../pipeline/errors.ts";
import {
  DDIMScheduler,
  DDPMScheduler,
  DPMSolverMultistepScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  LCMScheduler,
  LMSDiscreteScheduler,
  OUTPUT,
  PNDMScheduler,
  SAMPLE,
  Scheduler,
  SchedulerError,
  UniPCMultistepScheduler,
} from "../../schedulers/mod.ts";
import { FOREIGN_KEYS } from "../../schedulers/foreign_keys.ts";
import { goldens } from "../paths.ts";
import { FakeHub } from "../pipeline/checkpoint/hub/fake_hub.ts";
import { warningsOf } from "../warnings.ts";

const SD = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear", steps_offset: 1 };

Deno.test("keys that no scheduler has are warned about in diffusers' words, once for a configuration", () => {
  const { value: scheduler, warnings } = warningsOf(() =>
    DDIMScheduler.fromConfig({ ...SD, foo: 3, predict_epsilon: true, _name_or_path: "x", skip_prk_steps: true })
  );
  assertEquals(warnings, [
    'The config attributes {"foo":3,"predict_epsilon":true} were passed to DDIMScheduler, but are not expected and will ' +
    "be ignored. Please verify your scheduler_config.json configuration file.",
  ]);
  const { warnings: again } = warningsOf(() => EulerDiscreteScheduler.fromConfig(scheduler.config));
  assertEquals(again, []);
  assertEquals((scheduler.config as Record<string, unknown>).foo, 3, "it is handed on");
});

Deno.test("keys of compatible classes, of this version of diffusers and later ones, are read past in silence", () => {
  const classes = new LMSDiscreteScheduler().compatibles;
  for (const Class of [...classes, LCMScheduler]) {
    const { config } = new Class();
    const keys = Object.keys(config).filter((key) => !key.startsWith("_"));
    for (const key of keys) assert(FOREIGN_KEYS.has(key), `${Class.name}: ${key}`);
    for (const Other of classes) {
      const { warnings } = warningsOf(() => Other.fromConfig(JSON.parse(JSON.stringify(new Class()))));
      assertEquals(warnings, [], `${Class.name} to ${Other.name}`);
    }
  }
  const later = { final_sigmas_type: "zero", use_flow_sigmas: false, flow_shift: 1, time_shift_type: "exponential" };
  assertEquals(warningsOf(() => LMSDiscreteScheduler.fromConfig({ ...SD, ...later })).warnings, []);
});

Deno.test("a key that changes pictures and that the class does not have is warned about by name", () => {
  const cases = [
    [LMSDiscreteScheduler, { rescale_betas_zero_snr: true }],
    [PNDMScheduler, { rescale_betas_zero_snr: true }],
    [EulerAncestralDiscreteScheduler, { use_beta_sigmas: true }],
    [DDIMScheduler, { use_exponential_sigmas: true }],
    [DDPMScheduler, { use_flow_sigmas: true }],
    [LMSDiscreteScheduler, { timestep_type: "continuous" }],
  ] as const;
  for (const [Class, config] of cases) {
    const [key] = Object.keys(config);
    const { value, warnings } = warningsOf(() => Class.fromConfig({ ...SD, ...config }));
    assertEquals(warnings.length, 1, key);
    assert(warnings[0].includes(Class.name) && warnings[0].includes(key), warnings[0]);
    assertEquals(warningsOf(() => Class.fromConfig(value.config)).warnings, []);
  }
  for (const Class of [DPMSolverMultistepScheduler, UniPCMultistepScheduler]) {
    assertThrows(() => Class.fromConfig({ use_flow_sigmas: true }), SchedulerError, "use_flow_sigmas");
  }
  const both = { use_karras_sigmas: true, use_beta_sigmas: true };
  assertThrows(() => EulerDiscreteScheduler.fromConfig(both).plan(5), SchedulerError, "at most one");
  const noise = { algorithm_type: "dpmsolver", final_sigmas_type: "zero" };
  assertThrows(() => DPMSolverMultistepScheduler.fromConfig(noise), SchedulerError, "sigma_min");
});

Deno.test("zero terminal SNR with leading timesteps advises trailing ones", () => {
  for (const Class of [DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler]) {
    const advised = (timestep_spacing: string) =>
      warningsOf(() => Class.fromConfig({ ...SD, rescale_betas_zero_snr: true, timestep_spacing })).warnings;
    assertEquals(advised("trailing"), []);
    assertEquals(advised("leading").length, 1);
    assert(advised("leading")[0].includes('"trailing"'));
  }
});

Deno.test("configurations hold newer keys only where they were given", () => {
  const plain = new EulerDiscreteScheduler(SD).config as Record<string, unknown>;
  assertEquals("final_sigmas_type" in plain || "use_beta_sigmas" in plain, false);
  const given = new EulerDiscreteScheduler({ ...SD, final_sigmas_type: "zero" }).toJSON();
  assertEquals(given.final_sigmas_type, "zero");
});

Deno.test("compatibles lists diffusers' compatible classes, and only itself for LCM", () => {
  const names = (scheduler: Scheduler) => scheduler.compatibles.map(({ name }) => name).sort();
  const all = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
  ];
  const scheduler = DDIMScheduler.fromConfig(SD);
  assertEquals(names(scheduler), all);
  assertEquals(names(LCMScheduler.fromConfig()), ["LCMScheduler"]);
  for (const Class of scheduler.compatibles) assert(Class.fromConfig(scheduler.config) instanceof Class);
});

Deno.test("fromPretrained() reads a file, a folder and a subfolder, as its class or as the file's", async () => {
  const model = `${goldens}/sd2-mini`;
  const subfolder = "scheduler";
  const file = `${model}/scheduler/scheduler_config.json`;
  for (
    const scheduler of [
      await Scheduler.fromPretrained(model, { subfolder }),
      await Scheduler.fromPretrained(`${model}/scheduler`),
      await Scheduler.fromPretrained(file),
      await DDIMScheduler.fromPretrained(file),
    ]
  ) {
    assert(scheduler instanceof DDIMScheduler);
    assertEquals(scheduler.config.prediction_type, "v_prediction");
  }
  const euler: EulerDiscreteScheduler = await EulerDiscreteScheduler.fromPretrained(model, { subfolder });
  assert(euler instanceof EulerDiscreteScheduler);
  assertEquals(euler.config.prediction_type, "v_prediction");
  await assertRejects(() => Scheduler.fromPretrained(model), CheckpointError, 'give { subfolder: "scheduler" }');
  await assertRejects(() => Scheduler.fromPretrained(`${model}/unet`), CheckpointError, "scheduler_config.json");
  await assertRejects(() => Scheduler.fromPretrained("./no/such/folder"), CheckpointError);
});

Deno.test("fromPretrained() fetches a scheduler's file of a model on the hub, and no other", async () => {
  const hub = await FakeHub.start({
    "model_index.json": "{}",
    "scheduler/scheduler_config.json": JSON.stringify({ ...SD, _class_name: "DDPMScheduler" }),
    "unet/config.json": "{}",
    "unet/diffusion_pytorch_model.safetensors": new Uint8Array(8),
  });
  const cacheDir = await Deno.makeTempDir();
  try {
    const options = { subfolder: "scheduler", endpoint: hub.endpoint, cacheDir };
    assert(await Scheduler.fromPretrained(hub.id, options) instanceof DDPMScheduler);
    assertEquals(hub.asked, ["scheduler/scheduler_config.json"]);
    const euler = await EulerDiscreteScheduler.fromPretrained(hub.id, options);
    assertEquals(euler.config.beta_end, SD.beta_end);
    await assertRejects(() => Scheduler.fromPretrained(hub.id, { ...options, subfolder: "unet" }), CheckpointError);
  } finally {
    await hub.stop();
    await Deno.remove(cacheDir, { recursive: true });
  }
});

Deno.test("fromPretrained() takes the class that a file leaves out from model_index.json", async () => {
  const encode = (json: object) => new TextEncoder().encode(JSON.stringify(json));
  const tree = (index: object) =>
    memoryTree({ "model_index.json": encode(index), "scheduler/scheduler_config.json": encode(SD) }, "model");
  const named = tree({ scheduler: ["diffusers", "UniPCMultistepScheduler"] });
  assert(await Scheduler.fromPretrained(named, { subfolder: "scheduler" }) instanceof UniPCMultistepScheduler);
  assert(await PNDMScheduler.fromPretrained(tree({}), { subfolder: "scheduler" }) instanceof PNDMScheduler);
  await assertRejects(
    () => Scheduler.fromPretrained(tree({}), { subfolder: "scheduler" }),
    SchedulerError,
    "_class_name",
  );
});

Deno.test("one Karras step ends where it began, as in diffusers 0.23, or at σ_min where the configuration says so", () => {
  const karras = { ...SD, use_karras_sigmas: true };
  const sampleWeight = (config: object) => {
    const [step] = DPMSolverMultistepScheduler.fromConfig({ ...karras, ...config }).plan(1).steps;
    return step.combine.at(-1)!.terms;
  };
  assertEquals(sampleWeight({}), [{ register: SAMPLE, coefficient: 1 }]);
  // x' = (σ'/σ) x + α' (1 − e^−h) x_0 with x_0 = (x − σ ε) / α: DDIM's step between the two levels
  const { alphasCumprod } = DDIMScheduler.fromConfig(SD);
  const [from, to] = [alphasCumprod[999], alphasCumprod[0]];
  const terms = sampleWeight({ final_sigmas_type: "sigma_min" });
  const weightOf = (wanted: number) => terms.find(({ register }) => register === wanted)!.coefficient;
  assertAlmostEquals(weightOf(SAMPLE), Math.sqrt(to / from), 1e-4);
  assertAlmostEquals(weightOf(OUTPUT), Math.sqrt(1 - to) - Math.sqrt((1 - from) * to / from), 1e-4);
});
