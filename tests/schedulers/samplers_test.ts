import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  SAMPLER_NAMES,
  samplerByName,
  SCHEDULE_NAMES,
  SchedulerError,
  schedulerFromConfig,
} from "../../schedulers/mod.ts";
import { warningsOf } from "../warnings.ts";

const SD = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear", steps_offset: 1 };
const settingsOf = (name: string, config = {}) =>
  samplerByName(name, { ...SD, ...config }).config as Record<string, unknown>;

Deno.test("every listed sampler draws without clipping, whatever the model's configuration says", () => {
  const clipping = { ...SD, clip_sample: true };
  for (const name of SAMPLER_NAMES) assertEquals(samplerByName(name, clipping).plan(10).nonlinear, null, name);
});

Deno.test("the names of A1111, ComfyUI, k-diffusion and diffusers give the same class", () => {
  const names: Record<string, string[]> = {
    EulerDiscreteScheduler: ["Euler", "euler", "k_euler", "EulerDiscreteScheduler", "euler-discrete"],
    EulerAncestralDiscreteScheduler: ["Euler a", "euler_a", "euler_ancestral", "k_euler_ancestral", "EULER A"],
    HeunDiscreteScheduler: ["Heun", "heun", "HeunDiscreteScheduler"],
    LMSDiscreteScheduler: ["LMS", "lms", "k_lms"],
    KDPM2DiscreteScheduler: ["DPM2", "dpm_2", "k_dpm_2", "KDPM2DiscreteScheduler"],
    KDPM2AncestralDiscreteScheduler: ["DPM2 a", "dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"],
    DPMSolverMultistepScheduler: ["DPM++ 2M", "dpmpp_2m", "dpm++2m", "k_dpmpp_2m", "DPM++ 2M SDE", "dpmpp_2m_sde"],
    DPMSolverSinglestepScheduler: ["DPM++ SDE", "dpmpp_sde", "DPM++ 2S", "dpmpp_2s"],
    DEISMultistepScheduler: ["DEIS", "deis", "DEISMultistepScheduler"],
    UniPCMultistepScheduler: ["UniPC", "uni_pc", "uni_pc_bh2"],
    DDIMScheduler: ["DDIM", "ddim"],
    DDPMScheduler: ["DDPM", "ddpm"],
    PNDMScheduler: ["PLMS", "plms", "PNDM"],
    LCMScheduler: ["LCM", "lcm"],
  };
  for (const [className, known] of Object.entries(names)) {
    for (const name of known) assertEquals(settingsOf(name)._class_name, className, name);
  }
});

Deno.test("spacings of noise levels follow a sampler's name, in the forms of A1111 and ComfyUI", () => {
  const spacing = (name: string) => {
    const { use_karras_sigmas = false, use_exponential_sigmas = false, use_beta_sigmas = false, timestep_spacing } =
      settingsOf(name);
    return [use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas, timestep_spacing];
  };
  for (const name of ["DPM++ 2M Karras", "dpmpp_2m karras", "dpm++2m_karras", "dpm++ 2m-karras"]) {
    assertEquals(spacing(name), [true, false, false, "linspace"], name);
  }
  assertEquals(spacing("DPM++ 2M SDE Exponential"), [false, true, false, "linspace"]);
  assertEquals(spacing("Euler Polyexponential"), [false, true, false, "linspace"]);
  assertEquals(spacing("euler beta"), [false, false, true, "linspace"]);
  assertEquals(spacing("DPM++ 2M SGM Uniform"), [false, false, false, "trailing"]);
  assertEquals(spacing("euler_ancestral sgm_uniform"), [false, false, false, "trailing"]);
  assertEquals(spacing("Euler Simple"), [false, false, false, "trailing"]);
  assertEquals(spacing("euler normal"), [false, false, false, "linspace"]);
  assertEquals(spacing("heun ddim_uniform"), [false, false, false, "leading"]);
  assertEquals(spacing("ddim_trailing"), [false, false, false, "trailing"]);
  assertEquals(spacing("Euler Automatic"), spacing("Euler"));
  assertEquals(spacing("PNDMScheduler trailing")[3], "trailing");
});

Deno.test("a plain name spaces plainly, and the name of a class leaves the configuration's spacing", () => {
  const karras = { use_karras_sigmas: true };
  assertEquals(settingsOf("euler", karras).use_karras_sigmas, false);
  assertEquals(settingsOf("EulerDiscreteScheduler", karras).use_karras_sigmas, true);
  assertEquals(settingsOf("dpm++2m", { use_beta_sigmas: true }).use_beta_sigmas, false);
  assertEquals(settingsOf("euler karras", { use_beta_sigmas: true }).use_beta_sigmas, false);
  // Keys that diffusers 0.23 does not know are not written needlessly.
  assertEquals("use_beta_sigmas" in settingsOf("euler karras"), false);
});

Deno.test("each sampler draws with each spacing that it has, without a warning", () => {
  let combined = 0;
  for (const sampler of SAMPLER_NAMES.filter((name) => !/karras|trailing/.test(name))) {
    for (const schedule of SCHEDULE_NAMES) {
      const { warnings } = warningsOf(() => {
        try {
          const scheduler = samplerByName(`${sampler} ${schedule}`, SD);
          assert(scheduler.plan(10).steps.length >= 10);
          combined++;
        } catch (error) {
          assert(error instanceof SchedulerError && error.message.includes("The nearest"), `${error}`);
        }
      });
      assertEquals(warnings, [], `${sampler} ${schedule}`);
    }
  }
  assert(combined > 100, `${combined}`);
});

Deno.test("what is not computed is refused by name, with the nearest that is", () => {
  const cases = {
    "DPM++ 2S a": "dpm++2s",
    "dpmpp_2s_ancestral": "dpm++2s",
    "DPM++ 2S a Karras": "dpm++2s",
    "dpmpp_3m_sde": "dpm++2m sde",
    "DPM adaptive": "dpm++2m",
    "DPM fast": "dpm++2m",
    "heunpp2": "heun",
    "ipndm": "plms",
    "DPMSolverSDEScheduler": "dpm++2m sde",
    "Euler a Karras": "euler karras",
    "DDIM Karras": "ddim",
    "lcm beta": "lcm",
    "DPM++ 2M Align Your Steps": "dpm++2m karras",
    "euler kl_optimal": "euler karras",
    "dpm++ sde simple": "dpm++ sde",
  };
  for (const [name, nearby] of Object.entries(cases)) {
    const error = assertThrows(() => samplerByName(name, SD), SchedulerError);
    const { message, details } = error as SchedulerError;
    assert(message.includes(`"${name}"`) && message.endsWith(`"${nearby}"`), message);
    assertEquals(details.suggestion, nearby);
    assert(samplerByName(nearby, SD));
  }
});

Deno.test("an unknown name throws with all known ones, and suggests what was meant", () => {
  const error = assertThrows(() => samplerByName("sampler of mine", SD), SchedulerError) as SchedulerError;
  for (const name of SAMPLER_NAMES) assert(error.message.includes(name), name);
  assert(!error.message.includes("Did you mean"));
  const meant: Record<string, string> = {
    "eular": "euler",
    "dpm++2n karras": "dpm++2m karras",
    "ddimm": "ddim",
    "EulerDiscreteSheduler": "EulerDiscreteScheduler",
    "unpic": "unipc",
  };
  for (const [name, right] of Object.entries(meant)) {
    assertThrows(() => samplerByName(name, SD), SchedulerError, `Did you mean "${right}"?`);
  }
  assertThrows(
    () => schedulerFromConfig({ _class_name: "DDIMSheduler" }),
    SchedulerError,
    "Did you mean DDIMScheduler?",
  );
});
