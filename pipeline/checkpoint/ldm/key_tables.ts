/** Key tables of the models in a single file, by their configurations in diffusers' layout. */

import type { ConfigJson } from "../source/origin.ts";
import { type FusedKeys, KeyTable, openClipFused, openClipModules, unetModules, vaeModules } from "./keys.ts";

/** The modules of a UNet. */
export function unetTable(config: ConfigJson): KeyTable {
  return new KeyTable(unetModules({
    attention: (config.down_block_types as string[]).map((type) => type.startsWith("CrossAttn")),
    layersPerBlock: config.layers_per_block as number,
  }));
}

/** The modules of an autoencoder. */
export function vaeTable(config: ConfigJson): KeyTable {
  return new KeyTable(vaeModules({
    levels: (config.block_out_channels as number[]).length,
    layersPerBlock: config.layers_per_block as number,
  }));
}

/** The modules of OpenCLIP's text encoder, and its fused tensors. */
export function openClipTable(config: ConfigJson): { table: KeyTable; fused: FusedKeys[] } {
  const layers = config.num_hidden_layers as number;
  return {
    table: new KeyTable(openClipModules({ layers })),
    fused: Array.from({ length: layers }, (_, layer) => openClipFused(layer)).flat(),
  };
}
