/**
 * All names by which LoRA files call a model's layers, made of the model's own configuration:
 * diffusers' names, the names of the LDM layout, and those of old attention processors.
 */

import type { CLIPTextConfig } from "../checkpoint/diffusers/config/clip.ts";
import type { UNet2DConditionConfig } from "../checkpoint/diffusers/config/unet.ts";
import { KeyTable, openClipModules, unetModules } from "../checkpoint/ldm/keys.ts";
import { underscored } from "./lora_keys.ts";

/** Layer paths by their names, with underscores for dots. */
export type LayerNames = ReadonlyMap<string, string>;

/** The names of a UNet's layers. */
export function unetLayerNames(config: UNet2DConditionConfig, paths: Iterable<string>): LayerNames {
  const table = new KeyTable(unetModules({
    attention: config.downBlockTypes.map((type) => type === "CrossAttnDownBlock2D"),
    layersPerBlock: config.layersPerBlock,
  }));
  return namesOf(paths, (path) => {
    const ldm = table.toLdm(path);
    return ldm === undefined ? [path] : [path, ldm];
  });
}

/** The names of a text encoder's layers. */
export function textEncoderLayerNames(config: CLIPTextConfig, paths: Iterable<string>): LayerNames {
  const table = new KeyTable(openClipModules({ layers: config.numHiddenLayers }));
  return namesOf(paths, (path) => {
    const openClip = table.toLdm(path);
    return [path, path.replace(/^text_model\./, ""), ...openClip === undefined ? [] : [openClip]];
  });
}

/** Last parts of paths that old versions of diffusers called otherwise. */
const formerEndings: readonly (readonly [now: RegExp, then: string])[] = [
  [/_to_out_0$/, "_to_out"],
  [/_self_attn_q_proj$/, "_self_attn_to_q"],
  [/_self_attn_k_proj$/, "_self_attn_to_k"],
  [/_self_attn_v_proj$/, "_self_attn_to_v"],
  [/_self_attn_out_proj$/, "_self_attn_to_out"],
];

function namesOf(paths: Iterable<string>, spellings: (path: string) => readonly string[]): LayerNames {
  const names = new Map<string, string>();
  for (const path of paths) {
    for (const name of spellings(path).map(underscored)) {
      names.set(name, path);
      for (const [now, then] of formerEndings) if (now.test(name)) names.set(name.replace(now, then), path);
    }
  }
  return names;
}
