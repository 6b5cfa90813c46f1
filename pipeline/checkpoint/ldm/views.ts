/** The models of a single file under the keys of diffusers and transformers. Nothing is copied. */

import { RenamedWeights, type TensorView } from "../safetensors/renamed_weights.ts";
import type { Weights } from "../safetensors/weights.ts";
import type { ConfigJson } from "../source/origin.ts";
import { openClipTable, unetTable, vaeTable } from "./key_tables.ts";
import { ldmPrefixes, openClipProjection } from "./keys.ts";

/** The UNet under diffusers' keys. */
export function unetView(weights: Weights, config: ConfigJson): RenamedWeights {
  const table = unetTable(config);
  return new RenamedWeights(weights, renamedViews(weights, ldmPrefixes.unet, (key) => table.toDiffusers(key)));
}

/** The autoencoder under diffusers' keys. */
export function vaeView(weights: Weights, config: ConfigJson, prefix: string = ldmPrefixes.vae): RenamedWeights {
  const table = vaeTable(config);
  // Training checkpoints also contain the discriminator.
  const nameOf = (key: string) => /^(loss|model_ema)\./.test(key) ? null : table.toDiffusers(key);
  const views = renamedViews(weights, prefix, nameOf);
  for (const [name, view] of views) {
    // Attention projections are 1×1 convolutions in LDM and linear layers in diffusers.
    if (/\.attentions\..*\.weight$/.test(name)) views.set(name, { ...view, shape: view.shape.slice(0, 2) });
  }
  return new RenamedWeights(weights, views);
}

/**
 * CLIP's text encoder under transformers' keys, without layers beyond its configuration.
 *
 * @param prefix what the keys of its modules begin with
 */
export function clipView(weights: Weights, config: ConfigJson, prefix: string): RenamedWeights {
  const nameOf = (key: string) => {
    const layer = /^encoder\.layers\.(\d+)\./.exec(key);
    const isSkippedLayer = layer !== null && Number(layer[1]) >= (config.num_hidden_layers as number);
    return isSkippedLayer || /position_ids$/.test(key) ? null : `text_model.${key}`;
  };
  return new RenamedWeights(weights, renamedViews(weights, prefix, nameOf));
}

/**
 * OpenCLIP's text encoder under transformers' keys.
 *
 * @param options.prefix what the keys of its modules begin with
 * @param options.hasProjection whether its projection is read, as in SDXL
 */
export function openClipView(
  weights: Weights,
  config: ConfigJson,
  { prefix, hasProjection }: { prefix: string; hasProjection: boolean },
): RenamedWeights {
  const layers = config.num_hidden_layers as number;
  const hidden = config.hidden_size as number;
  const { table, fused } = openClipTable(config);
  const fusedKeys = new Set(fused.map(({ ldm }) => ldm));
  const isUnused = (key: string): boolean => {
    const layer = /^transformer\.resblocks\.(\d+)\./.exec(key);
    const isSkippedLayer = layer !== null && Number(layer[1]) >= layers;
    return isSkippedLayer || fusedKeys.has(key) || /^(logit_scale|attn_mask|visual\b.*)$/.test(key) ||
      (key === openClipProjection && !hasProjection);
  };
  const views = renamedViews(weights, prefix, (key) => isUnused(key) ? null : table.toDiffusers(key));
  for (const { ldm, diffusers } of fused) {
    const key = prefix + ldm;
    if (!weights.tensors.has(key)) continue; // binding reports its three parts as missing
    const { bytes, shape: [, ...inner] } = weights.info(key);
    diffusers.forEach((name, third) => {
      views.set(name, { key, shape: [hidden, ...inner], fromByte: third * bytes / 3 });
    });
  }
  const projection = prefix + openClipProjection;
  for (const [name, view] of views) {
    if (view.key === projection) views.set(name, { ...view, shape: view.shape.toReversed(), isTransposed: true });
  }
  return new RenamedWeights(weights, views);
}

/**
 * Views of all tensors whose keys start with a prefix.
 *
 * @param nameOf Returns the name in diffusers; `null` for a tensor to leave out; `undefined` for an
 *   unknown key, which keeps its name, so that binding reports it as unused.
 */
function renamedViews(
  weights: Weights,
  prefix: string,
  nameOf: (key: string) => string | undefined | null,
): Map<string, TensorView> {
  const views = new Map<string, TensorView>();
  for (const [key, { shape }] of weights.tensors) {
    if (!key.startsWith(prefix)) continue;
    const name = nameOf(key.slice(prefix.length));
    if (name !== null) views.set(name ?? key, { key, shape });
  }
  return views;
}
