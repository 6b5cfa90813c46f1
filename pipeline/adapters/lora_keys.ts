/**
 * Keys of LoRA files: a module's name in one of many spellings, and which part of its update a
 * tensor is. Names are compared with underscores for dots, so that the spellings of kohya (A1111),
 * ComfyUI, OneTrainer, LyCORIS, PEFT and diffusers become one.
 */

/** The models that a LoRA can adapt. */
export type LoraTarget = "unet" | "text_encoder" | "text_encoder_2";

/** One of each of a model's networks that LoRAs can adapt; SDXL alone has a second text encoder. */
export type PerTarget<T> =
  & Readonly<Record<"unet" | "text_encoder", T>>
  & Readonly<Partial<Record<"text_encoder_2", T>>>;

/** The tensors that an update can consist of. */
export type LoraPart =
  | ("down" | "up" | "mid" | "up_bias" | "alpha")
  | ("w1_a" | "w1_b" | "w2_a" | "w2_b" | "t1" | "t2")
  | ("k1" | "k1_a" | "k1_b" | "k2" | "k2_a" | "k2_b" | "kt2")
  | ("diff" | "diff_b" | "w_norm" | "b_norm")
  | ("gain" | "on_input")
  | ("dora_scale" | "magnitude");

/** The tensors of one module. */
export interface LoraModule {
  /** The model that the file names; `undefined` where the name alone tells. */
  readonly target: LoraTarget | undefined;
  /** The module's name with underscores, without prefixes. */
  readonly name: string;
  /** Keys of the file, by part. */
  readonly keys: ReadonlyMap<LoraPart, string>;
}

/** An embedding bundled with a LoRA, by the token to write in prompts. */
export interface BundledEmbedding {
  readonly token: string;
  /** The key of the embedding for the first text encoder. */
  readonly key: string;
  /** That for SDXL's second text encoder. */
  readonly key2?: string;
}

/** A file's keys, sorted. */
export interface LoraKeys {
  readonly modules: readonly LoraModule[];
  readonly embeddings: readonly BundledEmbedding[];
  /** Keys of no known form. */
  readonly unknown: readonly string[];
  /** Keys that say what another key has said. */
  readonly doubles: readonly string[];
}

/** Endings of keys. `NAME` stands for the adapter's name that PEFT may insert. */
const endings: readonly (readonly [ending: RegExp, parts: (match: RegExpExecArray) => LoraPart])[] = [
  [/(?:\.lora_linear_layer|\.lora|_lora)\.(down|up)(?:\.weight)?$/, ([, part]) => part as LoraPart],
  [/\.lora_(down|up|mid)(?:\.weight)?$/, ([, part]) => part as LoraPart],
  [/\.lora_(?:up|B)(?:\.(?!weight|bias)[^.]+)?\.bias$/, () => "up_bias"],
  [/\.lora_([AB])(?:\.(?!weight)[^.]+)?(?:\.weight)?$/, ([, part]) => part === "A" ? "down" : "up"],
  [/(?:\.lora_linear_layer|\.lora|_lora)?\.alpha$/, () => "alpha"],
  [/\.hada_(w[12]_[ab]|t[12])(?:\.(?!weight)[^.]+)?(?:\.weight)?$/, ([, part]) => part as LoraPart],
  [/\.lokr_w([12])(_[ab])?(?:\.(?!weight)[^.]+)?(?:\.weight)?$/, ([, n, half]) => `k${n}${half ?? ""}` as LoraPart],
  [/\.lokr_t2(?:\.(?!weight)[^.]+)?(?:\.weight)?$/, () => "kt2"],
  [/\.(diff|diff_b|w_norm|b_norm|on_input|dora_scale)$/, ([, part]) => part as LoraPart],
  [/\.lora_magnitude_vector(?:\.(?!weight)[^.]+)?(?:\.weight)?$/, () => "magnitude"],
  // (IA)³ as LyCORIS names it; PEFT's own weights never end so plainly.
  [/^(?<module>(?:lora|lycoris)_[^.]+)\.weight$/, () => "gain"],
];

/** Prefixes of names, and the model that they tell; `""` tells none. */
const prefixes: readonly (readonly [prefix: RegExp, target: LoraTarget | ""])[] = [
  [/^lora_(?:prior_)?unet_/, "unet"],
  [/^lora_te1?_/, "text_encoder"],
  [/^lora_te2_/, "text_encoder_2"],
  [/^lycoris_/, ""],
  [/^base_model_model_/, ""],
  [/^(?:model_)?diffusion_model_/, "unet"],
  [/^unet_/, "unet"],
  [/^text_encoder_2_/, "text_encoder_2"],
  [/^text_encoder_(?!\d_)/, "text_encoder"],
  [/^te1?_/, "text_encoder"],
  [/^te2_/, "text_encoder_2"],
  [/^(?:text_encoders_)?clip_[lh]_/, "text_encoder"],
  [/^(?:text_encoders_)?clip_g_/, "text_encoder_2"],
  [/^cond_stage_model_/, "text_encoder"],
  [/^(?:transformer_|model_)(?=text_model_|transformer_resblocks_)/, "text_encoder"],
];

/** Sorts the keys of a LoRA file by module, in file order. */
export function parseLoraKeys(keys: Iterable<string>): LoraKeys {
  const modules = new Map<string, Omit<LoraModule, "keys"> & { keys: Map<LoraPart, string> }>();
  const embeddings = new Map<string, { key?: string; key2?: string }>(), unknown: string[] = [], doubles: string[] = [];
  for (const key of keys) {
    const bundled = /^bundle_emb\.(.+?)\.(string_to_param(?:\.\*)?|emb_params|clip_l|clip_g)$/.exec(key);
    if (bundled) {
      const [, token, part] = bundled;
      embeddings.set(token, { ...embeddings.get(token), [part === "clip_g" ? "key2" : "key"]: key });
      continue;
    }
    const found = partOf(key);
    if (found === undefined) {
      unknown.push(key);
      continue;
    }
    const { target, name, part } = found;
    const id = `${target} ${name}`;
    const module = modules.get(id) ?? { target, name, keys: new Map<LoraPart, string>() };
    if (module.keys.has(part)) doubles.push(module.keys.get(part)!, key);
    else module.keys.set(part, key);
    modules.set(id, module);
  }
  const whole = [...embeddings].flatMap(([token, { key, key2 }]) => {
    if (key === undefined) unknown.push(key2!);
    return key === undefined ? [] : [{ token, key, key2 }];
  });
  return { modules: [...modules.values()], embeddings: whole, unknown, doubles };
}

function partOf(key: string): Omit<LoraModule, "keys"> & { part: LoraPart } | undefined {
  for (const [ending, partOfMatch] of endings) {
    const match = ending.exec(key);
    if (!match) continue;
    const module = match.groups?.module ?? key.slice(0, match.index);
    if (module === "") return undefined;
    return { ...nameOf(module), part: partOfMatch(match) };
  }
  return undefined;
}

/** Takes the prefixes off a module's name, and the "processor" of old attention processors. */
function nameOf(module: string): Pick<LoraModule, "target" | "name"> {
  let path = module.replaceAll(/\.processor(?=\.|$)/g, "");
  let target: LoraTarget | undefined;
  for (let isPrefixed = true; isPrefixed;) {
    isPrefixed = false;
    const name = underscored(path);
    for (const [prefix, told] of prefixes) {
      const match = prefix.exec(name);
      if (!match || match[0].length === name.length) continue;
      path = path.slice(match[0].length);
      if (told !== "") target ??= told;
      isPrefixed = true;
      break;
    }
  }
  return { target, name: underscored(path) };
}

/** A name with underscores for dots. */
export function underscored(path: string): string {
  return path.replaceAll(".", "_");
}
