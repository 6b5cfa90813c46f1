/**
 * Configurations of schedulers: which keys there are, their defaults, and what is said about those
 * that a class does not know.
 *
 * @module
 */
import { shown } from "../pipeline/shown.ts";
import { SchedulerError } from "./error.ts";
import { FOREIGN_KEYS, IGNORED_AT } from "./foreign_keys.ts";
import type { NoiseScheduleConfig } from "./noise_schedule.ts";
import { warn } from "../pipeline/safe_text.ts";

/**
 * A scheduler's configuration as diffusers writes it: snake_case keys, some of which may belong to
 * other classes.
 */
export type SchedulerConfig = Readonly<Record<string, unknown>>;

/** The keys that every scheduler here has. */
export interface BaseConfig extends NoiseScheduleConfig {
  /**
   * What the model predicts: "epsilon" (the noise), "sample" (the clean image) or "v_prediction".
   */
  readonly prediction_type: string;
  /**
   * Which timesteps are visited: "leading", "trailing" or "linspace" (arXiv 2305.08891, table 2).
   */
  readonly timestep_spacing: string;
  /** Added to "leading" timesteps; 1 in Stable Diffusion. */
  readonly steps_offset: number;
  /** Whether the predicted clean image is clipped. Must be false for latents. */
  readonly clip_sample?: boolean;
  /** The largest magnitude that clipping leaves. */
  readonly clip_sample_range?: number;
  /**
   * Whether dynamic thresholding limits the predicted clean image (arXiv 2205.11487). For models on
   * pixels, not latents.
   */
  readonly thresholding?: boolean;
  /** The quantile of magnitudes that thresholding limits to. */
  readonly dynamic_thresholding_ratio?: number;
  /** The largest bound of thresholding. */
  readonly sample_max_value?: number;
}

/** The configuration keys of a scheduler class. */
export interface ConfigRules<Config extends BaseConfig> {
  /** The class's name in diffusers. */
  readonly name: string;
  /** The keys that the class has in diffusers 0.23, with their defaults. */
  readonly defaults: Config;
  /**
   * Keys that later versions of diffusers added, with the values that mean what 0.23 does. A
   * configuration holds them only where they were given.
   */
  readonly newer?: Partial<Config>;
  /**
   * Whether ᾱ of a schedule rescaled to zero terminal SNR ends at 2⁻²⁴, which keeps σ finite, and
   * not at 0.
   */
  readonly leastAlphaBar?: true;
  /** Whether the configuration is kept as it is, for classes that cannot draw. */
  readonly unchecked?: true;
  /** Allowed values, for keys with a closed set of values. */
  readonly choices?: Readonly<Record<string, readonly unknown[]>>;
  /** Aliases of allowed values, by key. */
  readonly synonyms?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** The most noise levels that a configuration may name; Stable Diffusion has 1000. */
const MOST_TIMESTEPS = 100_000;

/**
 * Keys that a configuration left at the class's defaults, with their values. A symbol key survives
 * object spread and is left out of JSON.
 */
const DEFAULTED = Symbol("keys left at the class's defaults");

/** What has been warned about already. */
const WARNED = Symbol("warnings given");

interface Remembered {
  readonly [DEFAULTED]?: Readonly<Record<string, unknown>>;
  readonly [WARNED]?: readonly string[];
}

const CHOICES: Readonly<Record<string, readonly unknown[]>> = {
  beta_schedule: ["linear", "scaled_linear", "squaredcos_cap_v2"],
  prediction_type: ["epsilon", "sample", "v_prediction"],
  timestep_spacing: ["leading", "trailing", "linspace"],
  final_sigmas_type: ["zero", "sigma_min", null],
  // Flow matching is another kind of model.
  use_flow_sigmas: [false],
  use_dynamic_shifting: [false],
  shift_terminal: [null],
};

/** The keys that all classes share, with their most common defaults. */
export const COMMON_DEFAULTS = {
  num_train_timesteps: 1000,
  beta_start: 0.0001,
  beta_end: 0.02,
  beta_schedule: "linear",
  trained_betas: null,
  prediction_type: "epsilon",
  timestep_spacing: "leading",
  steps_offset: 0,
} as const satisfies BaseConfig;

/** Keys of flow matching models, which the solvers of current diffusers have and refuse here. */
export const FLOW_DEFAULTS = {
  use_flow_sigmas: false,
  flow_shift: 1,
  use_dynamic_shifting: false,
  time_shift_type: "exponential",
} as const satisfies FlowConfig;

/** The configuration keys of flow matching models, which must stay at their defaults. */
export interface FlowConfig {
  /** Must be false: flow matching is another kind of model. */
  readonly use_flow_sigmas?: boolean;
  /** Without flow matching it has no effect. */
  readonly flow_shift?: number;
  /** Must be false: flow matching is another kind of model. */
  readonly use_dynamic_shifting?: boolean;
  /** Without flow matching it has no effect. */
  readonly time_shift_type?: string;
}

/** A configuration with its defaults filled in. */
export interface ResolvedConfig<Config> {
  /** All keys, those of other classes included. Frozen. */
  readonly complete: Config & SchedulerConfig;
  /** The keys of the class. */
  readonly settings: Config;
}

/**
 * Completes a configuration: checks values, fills in defaults, and warns of keys that neither the
 * class nor a compatible one has.
 *
 * @throws {SchedulerError} for a value of the wrong kind, or one that is not supported
 */
export function resolveConfig<Config extends BaseConfig>(
  rules: ConfigRules<Config>,
  config: SchedulerConfig,
  overrides: SchedulerConfig,
): ResolvedConfig<Config> {
  const { name, defaults, newer = {}, synonyms } = rules;
  for (const given of [config, overrides] as unknown[]) {
    if (typeof given === "object" && given !== null && !Array.isArray(given)) continue;
    throw new SchedulerError(`Cannot configure ${name} as its configuration must be an object: ${shown(given)}`, {
      config: given,
    });
  }
  if (rules.unchecked) {
    return {
      complete: Object.freeze({ ...config, ...overrides }) as unknown as Config & SchedulerConfig,
      settings: defaults,
    };
  }
  const { [DEFAULTED]: inherited = {}, [WARNED]: warned = [] } = config as Remembered;
  const said = {
    ...Object.fromEntries(
      Object.entries(config).filter(([key, value]) => !(Object.hasOwn(inherited, key) && inherited[key] === value)),
    ),
    ...overrides,
  } as Record<string, unknown>;

  const settings: Record<string, unknown> = {};
  const defaulted: Record<string, unknown> = {};
  const given: Record<string, unknown> = {};
  for (const [key, value] of Object.entries({ ...newer, ...defaults })) {
    const isSaid = said[key] !== undefined && !(said[key] === null && value !== null);
    settings[key] = isSaid ? synonymOf(synonyms?.[key], said[key]) : value;
    if (!isSaid && key in defaults) defaulted[key] = value;
    if (isSaid || key in defaults) given[key] = settings[key];
  }
  for (const [key, value] of Object.entries(settings)) checkValue(rules, key, value);
  const { num_train_timesteps } = settings;
  if (!isTimestepCount(num_train_timesteps)) {
    throw new SchedulerError(
      `Cannot configure ${name} as num_train_timesteps must be a whole number from 1 to ${MOST_TIMESTEPS}: ` +
        shown(num_train_timesteps),
      { num_train_timesteps },
    );
  }
  const warnings = warningsOf(name, said, settings).filter((warning) => !warned.includes(warning.about));
  for (const { text } of warnings) warn(text);
  const complete = {
    ...said,
    ...given,
    _class_name: name,
    [DEFAULTED]: defaulted,
    [WARNED]: [...warned, ...warnings.map(({ about }) => about)],
  };
  return {
    complete: Object.freeze(complete) as unknown as Config & SchedulerConfig,
    settings: settings as unknown as Config,
  };
}

/**
 * A configuration with other values for some keys. As in diffusers, keys that were left at their
 * defaults still count as left out when another class is made of it.
 */
export function amendConfig<Config>(
  { complete, settings }: ResolvedConfig<Config>,
  values: SchedulerConfig,
): ResolvedConfig<Config> {
  const known = (from: object) => Object.fromEntries(Object.entries(values).filter(([key]) => key in from));
  const defaulted = (complete as Remembered)[DEFAULTED] ?? {};
  return {
    complete: Object.freeze({ ...complete, ...values, [DEFAULTED]: { ...defaulted, ...known(defaulted) } }),
    settings: { ...settings, ...known(settings as object) },
  };
}

function isTimestepCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MOST_TIMESTEPS;
}

function synonymOf(synonyms: Readonly<Record<string, string>> = {}, value: unknown): unknown {
  return typeof value === "string" && Object.hasOwn(synonyms, value) ? synonyms[value] : value;
}

function checkValue<Config extends BaseConfig>(
  { name, defaults, newer, choices }: ConfigRules<Config>,
  key: string,
  value: unknown,
): void {
  const allowed: readonly unknown[] | undefined = choices?.[key] ?? CHOICES[key];
  if (allowed) {
    if (allowed.includes(value)) return;
    throw new SchedulerError(
      `Cannot configure ${name} as ${key} must be one of ${allowed.map((one) => JSON.stringify(one)).join(", ")}: ` +
        shown(value),
      { key, value, allowed },
    );
  }
  const byDefault = kindOf(({ ...newer, ...defaults } as Record<string, unknown>)[key]);
  const wanted = byDefault !== "null" ? byDefault : key === "trained_betas" ? "list" : "number";
  const isList = Array.isArray(value);
  const isKind = isList ? value.every((one) => typeof one === "number") : true;
  if (value === null || kindOf(value) === wanted && isKind) return;
  throw new SchedulerError(
    `Cannot configure ${name} as ${key} must be a ${wanted}${wanted === "list" ? " of numbers" : ""}: ${shown(value)}`,
    { key, value },
  );
}

interface Warning {
  /** What it is about, so that a configuration made of this one does not give it again. */
  readonly about: string;
  readonly text: string;
}

/** What the keys of a configuration that the class does not have deserve to be said about. */
function warningsOf(name: string, said: Record<string, unknown>, settings: Record<string, unknown>): Warning[] {
  const foreign = Object.entries(said).filter(([key, value]) =>
    !Object.hasOwn(settings, key) && !key.startsWith("_") && value !== undefined
  );
  const warnings: Warning[] = [];
  const unknown = foreign.filter(([key]) => !FOREIGN_KEYS.has(key));
  if (unknown.length > 0) {
    const snakeCase = (key: string) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const meant = unknown.map(([key]) => snakeCase(key)).filter((key) => key in settings);
    warnings.push({
      about: `unknown ${unknown.map(([key]) => key).join()}`,
      text: `The config attributes ${shown(Object.fromEntries(unknown), 500)} were passed to ${name}, but are not ` +
        "expected and will be ignored. Please verify your scheduler_config.json configuration file." +
        (meant.length === 0 ? "" : ` Keys are those of the file: did you mean ${meant.join(", ")}?`),
    });
  }
  for (const [key, value] of foreign) {
    const harmless = Object.hasOwn(IGNORED_AT, key) ? IGNORED_AT[key] : undefined;
    if (harmless === undefined || harmless.value === value || value === null) continue;
    warnings.push({
      about: `${name} ${key}`,
      text: `${name} has no ${key}, and draws as with ${JSON.stringify(harmless.value)}: ${shown(value)} was ` +
        `given. ${harmless.advice}`,
    });
  }
  if (settings.rescale_betas_zero_snr && settings.timestep_spacing === "leading") {
    warnings.push({
      about: "leading zero terminal SNR",
      text:
        `${name} has rescale_betas_zero_snr, and timestep_spacing "leading", which never visits the last timestep, ` +
        'where the signal is zero. Set timestep_spacing to "trailing" (arXiv 2305.08891)',
    });
  }
  return warnings;
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "list" : typeof value;
}
