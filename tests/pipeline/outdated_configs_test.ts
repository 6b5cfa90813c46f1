import { assert, assertEquals, assertRejects } from "@std/assert";
import { repairOutdated } from "../../pipeline/outdated_configs.ts";
import type { UNet2DConditionModel } from "../../pipeline/models/unet.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import type { FileTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import { openTree } from "../../pipeline/checkpoint/source/disk.ts";
import {
  DDIMScheduler,
  DDPMScheduler,
  PNDMScheduler,
  samplerByName,
  SchedulerError,
  UnknownScheduler,
} from "../../schedulers/mod.ts";
import { loadGoldens } from "../goldens.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { goldens } from "../paths.ts";
import { warningsOf, warningsOfAsync } from "../warnings.ts";

/** As for the sampler runs of stable_diffusion_test.ts. */
const tolerance = 1e-4;
const SD = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear" };

/** The folder sd1-mini with another scheduler. */
async function withScheduler(className: string, config: object): Promise<FileTree> {
  const tree = await openTree(`${goldens}/sd1-mini`);
  const index = await tree.readJson("model_index.json") as Record<string, unknown>;
  const changed = new Map<string, unknown>([
    ["model_index.json", { ...index, scheduler: ["diffusers", className] }],
    ["scheduler/scheduler_config.json", config],
  ]);
  const within = (tree: FileTree, prefix: string): FileTree => ({
    ...tree,
    name: tree.name,
    has: (path) => tree.has(path),
    open: (path) => tree.open(path),
    readText: (path) => tree.readText(path),
    readJson: (path) => {
      const own = changed.get(prefix + path);
      return own === undefined ? tree.readJson(path) : Promise.resolve(own);
    },
    list: (path) => tree.list(path),
    subtree: (path) => within(tree.subtree(path), `${prefix}${path}/`),
  });
  return within(tree, "");
}

gpuTest("new schedulers and repaired configurations end in diffusers' latents", async (gpu) => {
  const { tensors, note } = await loadGoldens("reference/scheduler_pipelines");
  for (const [name, { class: className, config, repaired, has }] of Object.entries<Case>(note)) {
    const tree = await withScheduler(className, config);
    const { value: pipe, warnings } = await warningsOfAsync(() =>
      StableDiffusionPipeline.fromPretrained(tree, { gpu })
    );
    using _ = pipe;
    const repairs = warnings.filter((text) => text.includes("outdated"));
    assertEquals(repairs.length, repaired, `${name}: ${warnings.join("\n")}`);
    assertEquals(pipe.scheduler.config._class_name, className);
    for (const [key, value] of Object.entries(has)) {
      assertEquals((pipe.scheduler.config as Record<string, unknown>)[key], value, `${name}: ${key}`);
    }
    const { images } = await pipe.generate("a field of roses", {
      numInferenceSteps: 4,
      guidanceScale: 5,
      generator: 7,
      outputType: "latent",
    });
    using latents = images;
    assertClose(await latents.data(), tensors.get(name)!.data, tolerance, name);
  }
});

interface Case {
  class: string;
  config: object;
  repaired: number;
  has: Record<string, unknown>;
}

gpuTest("a model whose scheduler is unknown loads with a warning, and draws with a chosen sampler", async (gpu) => {
  const tree = await withScheduler("EDMEulerScheduler", { ...SD, _class_name: "EDMEulerScheduler", sigma_data: 0.5 });
  const { value: pipe, warnings } = await warningsOfAsync(() => StableDiffusionPipeline.fromPretrained(tree, { gpu }));
  using _ = pipe;
  assertEquals(warnings.length, 1);
  assert(warnings[0].includes("EDMEulerScheduler") && warnings[0].includes("model_index.json"), warnings[0]);
  assert(pipe.scheduler instanceof UnknownScheduler);
  const options = { numInferenceSteps: 2, generator: 7, outputType: "latent" } as const;
  await assertRejects(() => pipe.generate("a rose", options), SchedulerError, "choose a sampler");
  pipe.scheduler = warningsOf(() => samplerByName("ddim", pipe.scheduler.config)).value;
  assertEquals(pipe.scheduler.config.beta_start, SD.beta_start);
  const { images } = await pipe.generate("a rose", options);
  using latents = images;
  assert((await latents.data()).every(Number.isFinite));
});

Deno.test("a repaired default is left out again when another class is made of the configuration, as in diffusers", () => {
  const scheduler = DDIMScheduler.fromConfig(SD);
  warningsOf(() => repairOutdated({ scheduler, unet: unetOf(64, "0.23.1") }));
  assertEquals([scheduler.config.clip_sample, scheduler.config.steps_offset], [false, 1]);
  assertEquals(scheduler.plan(10).nonlinear, null);
  assertEquals(scheduler.plan(10).timesteps.at(-1), 1);
  assertEquals(DDPMScheduler.fromConfig(scheduler.config).config.clip_sample, true);
  assertEquals(PNDMScheduler.fromConfig(scheduler.config).config.steps_offset, 0);
  const said = DDIMScheduler.fromConfig({ ...SD, clip_sample: true, steps_offset: 0 });
  warningsOf(() => repairOutdated({ scheduler: said, unet: unetOf(64, "0.23.1") }));
  assertEquals(DDPMScheduler.fromConfig(said.config).config.clip_sample, false);
  assertEquals(PNDMScheduler.fromConfig(said.config).config.steps_offset, 1);
  // Repaired once, it is in order.
  assertEquals(warningsOf(() => repairOutdated({ scheduler: said, unet: unetOf(64, "0.23.1") })).warnings, []);
});

Deno.test("sample_size below 64 becomes 64 in configurations that diffusers before 0.9 wrote, and in no others", () => {
  const scheduler = DDIMScheduler.fromConfig({ ...SD, clip_sample: false, steps_offset: 1 });
  const cases = [
    [32, "0.8.1", 64],
    [32, "0.3.0.dev0", 64],
    [63, "0.2.4", 64],
    [64, "0.6.0", 64],
    [96, "0.6.0", 96],
    [null, "0.6.0", null],
    [32, "0.9.0.dev0", 32],
    [32, "0.9.0", 32],
    [32, "0.23.1", 32],
    [32, "1.0.0", 32],
    [32, undefined, 32], // diffusers 0.23.1 repairs only where the version is written
  ] as const;
  for (const [sampleSize, version, repaired] of cases) {
    const unet = unetOf(sampleSize, version);
    const { warnings } = warningsOf(() => repairOutdated({ scheduler, unet }));
    assertEquals(unet.config.sampleSize, repaired, `${sampleSize}, ${version}`);
    assertEquals(warnings.length, repaired === sampleSize ? 0 : 1, `${sampleSize}, ${version}`);
  }
});

function unetOf(sampleSize: number | null, version: string | undefined): UNet2DConditionModel {
  const origin = { config: version === undefined ? {} : { _diffusers_version: version } };
  return { config: { sampleSize }, origin } as unknown as UNet2DConditionModel;
}
