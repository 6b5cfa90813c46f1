/**
 * Single files of other tools, read under the prefixes of the original layout: ComfyUI, sgm and
 * others store the same models under other names.
 *
 * @module
 */

import { CheckpointError } from "../../errors.ts";
import { RenamedWeights, type TensorView } from "../safetensors/renamed_weights.ts";
import type { Weights } from "../safetensors/weights.ts";
import { ldmPrefixes } from "./keys.ts";

/** Another prefix of a model, and how the rest of one of its keys begins. */
interface Alias {
  readonly prefix: string;
  readonly inside: RegExp;
}

const clip = /^(text_model\.)?(encoder\.layers|embeddings)\./;
const openClip = /^transformer\.resblocks\./;
const aliases: Readonly<Partial<Record<keyof typeof ldmPrefixes, readonly Alias[]>>> = {
  unet: ["diffusion_model.", "unet."].map((prefix) => ({ prefix, inside: /^input_blocks\./ })),
  vae: ["vae."].map((prefix) => ({ prefix, inside: /^(encoder\.down|decoder\.up)\.\d/ })),
  clip: [
    ...["cond_stage_model.", "text_encoders.", ""].flatMap((outer) =>
      ["clip_l.transformer.", "clip_l.", "clip_h.transformer.", "clip_h."].map((inner) => outer + inner)
    ),
    ...["conditioner.embedders.0.transformer.", "text_encoder.", "cond_stage_model."],
  ].map((prefix) => ({ prefix, inside: clip })),
  openClip: ["conditioner.embedders.0.model.", "cond_stage_model.clip_h.model.", "text_encoders.clip_h.model."]
    .map((prefix) => ({ prefix, inside: openClip })),
};

/**
 * The weights under the prefixes of the original layout. Returned as they are if they have them
 * already.
 *
 * @param options.ema whether the UNet is read from its averaged copy (`model_ema.…`)
 * @throws {CheckpointError} if `ema` is set and there is no averaged copy of the whole UNet
 */
export function canonicalWeights(weights: Weights, options: { ema?: boolean } = {}): Weights {
  const keys = [...weights.tensors.keys()];
  // SDXL keeps its two text encoders under the same names, and is recognized by them.
  const isSdxl = keys.some((key) => /^(conditioner\.embedders\.1|model\.diffusion_model\.label_emb)\./.test(key));
  const prefixes = isSdxl ? [] : Object.entries(aliases).flatMap(([part, candidates]) => {
    const canonical = ldmPrefixes[part as keyof typeof ldmPrefixes];
    if (keys.some((key) => key.startsWith(canonical))) return [];
    const found = candidates.find(({ prefix, inside }) =>
      keys.some((key) => key.startsWith(prefix) && inside.test(key.slice(prefix.length)))
    );
    return found === undefined ? [] : [[found.prefix, canonical] as const];
  });
  if (prefixes.length === 0 && !options.ema) return weights;
  const views = new Map<string, TensorView>();
  for (const key of keys) {
    const prefix = prefixes.find(([from]) => key.startsWith(from));
    const name = prefix === undefined ? key : prefix[1] + key.slice(prefix[0].length);
    views.set(name, { key, shape: weights.info(key).shape });
  }
  if (options.ema) readAveraged(weights, views);
  return new RenamedWeights(weights, views);
}

/**
 * Replaces the UNet's tensors by their exponential moving averages. CompVis' `LitEma` keeps them
 * without the dots: `model.diffusion_model.out.2.bias` becomes `model_ema.diffusion_modelout2bias`.
 */
function readAveraged(weights: Weights, views: Map<string, TensorView>): void {
  const prefix = "model_ema.";
  for (const [name, view] of views) {
    if (!name.startsWith(ldmPrefixes.unet)) continue;
    const key = prefix + name.slice("model.".length).replaceAll(".", "");
    if (!weights.tensors.has(key)) {
      const reason = [...views.keys()].some((other) => other.startsWith(prefix))
        ? `it has no ${key}`
        : "it has none (no model_ema.…)";
      throw new CheckpointError(`Cannot load the averaged (EMA) weights of ${weights.name} as ${reason}`, {
        source: weights.name,
      });
    }
    views.set(name, { ...view, key });
    views.delete(key);
  }
}
