import { nearest } from "../pipeline/nearest.ts";
import { CLASSES, type ClassName } from "./classes.ts";
import type { SchedulerConfig } from "./config.ts";
import { SchedulerError } from "./error.ts";
import {
  plainName,
  type Sampler,
  SAMPLERS,
  type Schedule,
  SCHEDULES,
  SIGMA_SPACING_KEYS,
  UNSUPPORTED,
  UNSUPPORTED_SCHEDULES,
} from "./sampler_table.ts";
import type { Scheduler } from "./scheduler.ts";

/** Classes whose noise levels can be spaced otherwise than at the timesteps. */
const SPACES_SIGMAS: readonly ClassName[] = [
  "DEISMultistepScheduler",
  "DPMSolverMultistepScheduler",
  "DPMSolverSinglestepScheduler",
  "EulerDiscreteScheduler",
  "HeunDiscreteScheduler",
  "KDPM2AncestralDiscreteScheduler",
  "KDPM2DiscreteScheduler",
  "LMSDiscreteScheduler",
  "UniPCMultistepScheduler",
];

/** Classes that read no timestep_spacing. */
const OWN_TIMESTEPS: readonly ClassName[] = ["DPMSolverSinglestepScheduler", "LCMScheduler"];

/** The samplers that {@linkcode samplerByName} knows, and those with Karras noise levels. */
export const SAMPLER_NAMES: readonly string[] = [
  ...SAMPLERS.flatMap(({ name, scheduler }) => SPACES_SIGMAS.includes(scheduler) ? [name, `${name} karras`] : [name]),
  "ddim_trailing",
];

/** What can follow a sampler's name: how its noise levels are spaced. */
export const SCHEDULE_NAMES: readonly string[] = SCHEDULES.map(({ name }) => name);

/**
 * The sampler of a name, for a model with the scheduler configuration `config`.
 *
 * Names are those of diffusers' classes, A1111, ComfyUI and stable-diffusion.cpp, and can be
 * followed by the spacing of noise levels ({@linkcode SCHEDULE_NAMES}). Case, spaces and
 * punctuation are ignored: "DPM++ 2M Karras", "dpmpp_2m karras" and "dpm++2m_karras" are equal.
 * Without a spacing, the timesteps are the configuration's, and noise levels lie at them.
 *
 * ```ts
 * const scheduler = DDIMScheduler.fromConfig({ beta_schedule: "scaled_linear" });
 * const sampler = samplerByName("euler_a", scheduler.config);
 * ```
 *
 * @throws {SchedulerError} where the name is unknown, or what it names is not computed; the message
 *   lists the known names, or says what to choose instead
 */
export function samplerByName(name: string, config: SchedulerConfig = {}): Scheduler {
  if (typeof name !== "string") {
    throw new SchedulerError(`Cannot choose a sampler as its name must be a string: ${typeof name}`, { name });
  }
  const { sampler, schedule } = parseName(name);
  const overrides: Record<string, unknown> = { ...sampler.overrides, ...schedule?.overrides };
  if (!sampler.keepsSpacing || schedule) {
    for (const key of SIGMA_SPACING_KEYS) {
      // False is said where the class or the configuration would otherwise say true.
      const isKnown = key === "use_karras_sigmas" && SPACES_SIGMAS.includes(sampler.scheduler);
      if (overrides[key] === undefined && (isKnown || config[key])) overrides[key] = false;
    }
  }
  return CLASSES[sampler.scheduler].fromConfig(config, overrides);
}

interface NamedSampler extends Pick<Sampler, "name" | "scheduler" | "overrides"> {
  /** Whether the configuration decides about Karras levels: for names of classes. */
  readonly keepsSpacing?: boolean;
}

function parseName(name: string): { sampler: NamedSampler; schedule?: Schedule } {
  const plain = plainName(name);
  const whole = samplerOf(plain);
  if (whole) return { sampler: whole };
  refuseUnsupported(name, plain);
  for (const schedule of SCHEDULES) {
    for (const suffix of [schedule.name, ...schedule.aliases].map(plainName)) {
      if (!plain.endsWith(suffix)) continue;
      const sampler = samplerOf(plain.slice(0, -suffix.length));
      if (sampler) return { sampler, schedule: checkSchedule(name, sampler, schedule) };
      refuseUnsupported(name, plain.slice(0, -suffix.length));
    }
  }
  for (const [suffix, instead] of Object.entries(UNSUPPORTED_SCHEDULES)) {
    const sampler = plain.endsWith(plainName(suffix))
      ? samplerOf(plain.slice(0, -plainName(suffix).length))
      : undefined;
    if (!sampler) continue;
    const schedule = SCHEDULES.find((one) => one.name === instead)!;
    const nearby = supports(sampler, schedule) ? `${sampler.name} ${instead}` : sampler.name;
    throw refusal(name, `the spacing "${suffix}" is not computed`, nearby);
  }
  const known = [...SAMPLERS.flatMap((one) => [one.name, ...one.aliases]), ...SAMPLER_NAMES, ...Object.keys(CLASSES)];
  const near = nearest(name, known);
  throw new SchedulerError(
    `Cannot choose a sampler as its name must be one of ${
      SAMPLER_NAMES.join(", ")
    }, or a scheduler class of diffusers: ` +
      `"${name}"${near === undefined ? "" : `. Did you mean "${near}"?`}`,
    { name, ...near === undefined ? {} : { suggestion: near } },
  );
}

/** The sampler or class of a plain name. */
function samplerOf(plain: string): NamedSampler | undefined {
  const named = SAMPLERS.find(({ name, aliases }) => [name, ...aliases].some((one) => plainName(one) === plain));
  if (named) return named;
  const className = Object.keys(CLASSES).find((one) =>
    [one, one.replace(/Scheduler$/, "")].map(plainName).includes(plain)
  );
  if (className === undefined) return undefined;
  return { name: className, scheduler: className as ClassName, overrides: {}, keepsSpacing: true };
}

function refuseUnsupported(name: string, plain: string): void {
  const found = Object.entries(UNSUPPORTED).find(([one]) => plainName(one) === plain);
  if (found) throw refusal(name, "it is not computed", found[1]);
}

function checkSchedule(name: string, sampler: NamedSampler, schedule: Schedule): Schedule {
  if (supports(sampler, schedule)) return schedule;
  const others = SCHEDULES.filter((one) => supports(sampler, one)).map((one) => `"${one.name}"`);
  const nearby = schedule.name === "karras" && sampler.scheduler === "EulerAncestralDiscreteScheduler"
    ? "euler karras"
    : sampler.name;
  throw refusal(name, `${sampler.name} has no spacing "${schedule.name}", only ${others.join(", ")}`, nearby);
}

function supports({ scheduler }: NamedSampler, { name, needs }: Schedule): boolean {
  if (name === "automatic") return true;
  if (needs === "sigmas") return SPACES_SIGMAS.includes(scheduler);
  // Singlestep solvers space timesteps as "linspace".
  return !OWN_TIMESTEPS.includes(scheduler) || scheduler === "DPMSolverSinglestepScheduler" && name === "normal";
}

function refusal(name: string, reason: string, nearby: string): SchedulerError {
  return new SchedulerError(`Cannot choose the sampler "${name}" as ${reason}. The nearest that is: "${nearby}"`, {
    name,
    suggestion: nearby,
  });
}
