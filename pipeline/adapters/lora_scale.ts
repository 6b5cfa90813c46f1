/**
 * The scale α / rank that an adapter's configuration states: PEFT's `adapter_config.json`, and what
 * diffusers writes into a file's header as `lora_adapter_metadata`.
 */

import * as v from "valibot";
import { AdapterError } from "../errors.ts";
import { anyText, boolean, fields, finite, oneOf, type Schema, validate, whole } from "../schema.ts";
import { shown } from "../shown.ts";
import type { LoraTarget } from "./lora_keys.ts";
import { maxRank } from "./lora_shapes.ts";
import { modulePatterns } from "./module_patterns.ts";

/** The header's key under which diffusers stores an adapter's configuration. */
export const adapterMetadataKey = "lora_adapter_metadata";

/** PEFT's default of `lora_alpha`. */
const defaultAlpha = 8;

/** What counts of an adapter's configuration, as PEFT writes it. */
const configSchema = fields({
  peft_type: v.nullish(oneOf("LORA", "LOHA", "LOKR")),
  init_lora_weights: v.nullish(v.union([v.boolean(), anyText()], "true, false or a string")),
  r: v.nullish(whole(1, maxRank)),
  lora_alpha: v.nullish(finite()),
  alpha: v.nullish(finite()),
  rank_pattern: v.nullish(patternSchema(whole(1, maxRank))),
  alpha_pattern: v.nullish(patternSchema(finite())),
  use_rslora: v.nullish(boolean()),
  use_dora: v.nullish(boolean()),
});

/** Numbers by patterns of module names. */
function patternSchema(number: Schema<number>): Schema<Record<string, number>> {
  return v.record(v.string(), number, "an object of numbers by module names");
}

/** One model's adapter configuration, as far as it affects the result. */
export class LoraConfig {
  readonly #source: string;
  readonly #rank: number | undefined;
  readonly #alpha: number;
  readonly #rankOf: (path: string) => number | undefined;
  readonly #alphaOf: (path: string) => number | undefined;
  readonly #isRankStabilized: boolean;
  /** Whether the adapter has magnitudes (DoRA). */
  readonly usesDora: boolean;

  /**
   * @param source what to call the configuration in messages
   * @throws {AdapterError} for values that are not what PEFT writes, and for adapters that change
   *   the base weights first
   */
  constructor(json: unknown, source: string) {
    this.#source = source;
    const refuse = (reason: string) => this.#refusal(reason);
    const config = validate(configSchema, json, refuse);
    const start = config.init_lora_weights;
    if (typeof start === "string" && /^(pissa|olora|corda|loftq)/i.test(start)) {
      throw refuse(
        `init_lora_weights is ${shown(start)}: it was trained on changed base weights. ` +
          "Convert it to a plain LoRA with PEFT's save_pretrained(path_initial_model_for_weight_conversion=…)",
      );
    }
    this.#rank = config.r ?? undefined;
    this.#alpha = config.lora_alpha ?? config.alpha ?? defaultAlpha;
    this.#rankOf = modulePatterns(config.rank_pattern ?? {}, (reason) => refuse(`rank_pattern ${reason}`));
    this.#alphaOf = modulePatterns(config.alpha_pattern ?? {}, (reason) => refuse(`alpha_pattern ${reason}`));
    this.#isRankStabilized = config.use_rslora ?? false;
    this.usesDora = config.use_dora ?? false;
  }

  /**
   * α / rank of a module, or α / √rank with `use_rslora` (2312.03732). PEFT's patterns match the
   * end of a path, from a dot or its beginning.
   *
   * @param path the module's path in the model
   * @param rank the rank of its factors; `undefined` where the tensors do not tell
   * @throws {AdapterError} if the configuration states another rank, or the scale exceeds f32
   */
  scale(path: string, rank: number | undefined): number {
    const stated = this.#rankOf(path) ?? this.#rank;
    if (rank !== undefined && stated !== undefined && rank !== stated) {
      throw this.#refusal(`it states rank ${stated} for ${path} and the file's factors have rank ${rank}`);
    }
    const known = rank ?? stated;
    if (known === undefined) return 1;
    const alpha = this.#alphaOf(path) ?? this.#alpha;
    const scale = alpha / (this.#isRankStabilized ? Math.sqrt(known) : known);
    if (Number.isFinite(Math.fround(scale))) return scale; // the device computes in f32
    throw this.#refusal(`its alpha for ${path} is too large: ${alpha}`);
  }

  #refusal(reason: string): AdapterError {
    return new AdapterError(`Cannot load a LoRA by ${this.#source} as ${reason}`, { source: this.#source, keys: [] });
  }
}

/** The configurations of a LoRA file, by the model that each is for. */
export type LoraConfigs = Readonly<Partial<Record<LoraTarget, LoraConfig>>>;

/**
 * Reads the configurations of a file: the header's come before `adapter_config.json`.
 *
 * @param options.metadata the file's `__metadata__`
 * @param options.file contents of an `adapter_config.json` beside it
 * @throws {AdapterError} if one is malformed
 */
export function readLoraConfigs(
  source: string,
  options: { metadata: Readonly<Record<string, string>>; file?: unknown },
): LoraConfigs {
  const text = options.metadata[adapterMetadataKey];
  if (text !== undefined) {
    const where = `the ${adapterMetadataKey} of ${source}`;
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (cause) {
      throw new AdapterError(`Cannot load ${source} as its ${adapterMetadataKey} is not JSON`, {
        source,
        keys: [],
        cause,
      });
    }
    if (!isRecord(json)) {
      throw new AdapterError(`Cannot load ${source} as its ${adapterMetadataKey} is not an object`, {
        source,
        keys: [],
      });
    }
    return {
      unet: component(json, "unet", where),
      text_encoder: component(json, "text_encoder", where),
      text_encoder_2: component(json, "text_encoder_2", where),
    };
  }
  if (options.file === undefined) return {};
  const where = `the adapter_config.json beside ${source}`;
  if (!isRecord(options.file)) {
    throw new AdapterError(`Cannot load ${source} as ${where} is not an object`, { source, keys: [] });
  }
  const config = new LoraConfig(options.file, where);
  return { unet: config, text_encoder: config, text_encoder_2: config };
}

/**
 * One model's part: keys that start with its name, without it. Keys without any model's name are
 * for all.
 */
function component(json: Readonly<Record<string, unknown>>, target: LoraTarget, where: string): LoraConfig | undefined {
  const own = Object.entries(json).flatMap(([key, value]) => {
    if (key.startsWith(`${target}.`)) return [[key.slice(target.length + 1), value] as const];
    return /^[a-z_]*$/.test(key) ? [[key, value] as const] : [];
  });
  const isConfig = own.some(([key]) => ["r", "lora_alpha", "alpha_pattern", "rank_pattern"].includes(key));
  return isConfig ? new LoraConfig(Object.fromEntries(own), where) : undefined;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * @throws {AdapterError} if a configuration states DoRA for a module without magnitudes: PEFT would
 *   compute them of the weights, and the file is incomplete
 */
export function checkDora(
  source: string,
  modules: readonly { target: LoraTarget; path: string; form: string; isDora: boolean }[],
  configs: LoraConfigs,
): void {
  for (const { target, path, form, isDora } of modules) {
    if (form !== "LoRA" || isDora || !configs[target]?.usesDora) continue;
    throw new AdapterError(
      `Cannot load ${source} as its configuration states use_dora and it has no lora_magnitude_vector for ${path}`,
      { source, keys: [] },
    );
  }
}
