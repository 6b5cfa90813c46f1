/**
 * Module names in the two layouts of Stable Diffusion's weights: the original layout of CompVis
 * (LDM, single files), and that of diffusers and transformers (folders). Names inside a transformer
 * block are the same in both.
 */

/** A module's name in the LDM layout and in diffusers. */
export type ModulePair = readonly [ldm: string, diffusers: string];

/** The key prefix of each model in a single file. */
export const ldmPrefixes = {
  unet: "model.diffusion_model.",
  vae: "first_stage_model.",
  /** SD 1.x: CLIP under transformers' names; only the prefix differs. */
  clip: "cond_stage_model.transformer.",
  /** SD 2.x: OpenCLIP. */
  openClip: "cond_stage_model.model.",
  /** SDXL's first text encoder: CLIP under transformers' names. */
  xlClip: "conditioner.embedders.0.transformer.",
  /** SDXL's second text encoder: OpenCLIP. */
  xlOpenClip: "conditioner.embedders.1.model.",
} as const;

/**
 * Translates keys between the layouts. A key belongs to the module with the longest matching
 * prefix.
 */
export class KeyTable {
  readonly #toDiffusers: ReadonlyMap<string, string>;
  readonly #toLdm: ReadonlyMap<string, string>;

  constructor(pairs: readonly ModulePair[]) {
    this.#toDiffusers = new Map(pairs);
    this.#toLdm = new Map(pairs.map(([ldm, diffusers]) => [diffusers, ldm]));
  }

  /** The key in diffusers' layout; `undefined` for a key of an unknown module. */
  toDiffusers(key: string): string | undefined {
    return renamed(key, this.#toDiffusers);
  }

  /** The key in the LDM layout; `undefined` for a key of an unknown module. */
  toLdm(key: string): string | undefined {
    return renamed(key, this.#toLdm);
  }
}

function renamed(key: string, modules: ReadonlyMap<string, string>): string | undefined {
  for (let end = key.length; end > 0; end = key.lastIndexOf(".", end - 1)) {
    const module = modules.get(key.slice(0, end));
    if (module !== undefined) return module + key.slice(end);
  }
  return undefined;
}

/**
 * The modules of a UNet. LDM numbers the blocks of each path consecutively (`input_blocks.7`);
 * diffusers numbers them within their level (`down_blocks.2.resnets.0`).
 *
 * @param options.attention Whether each level has transformers, from the highest resolution down.
 */
export function unetModules(options: { attention: readonly boolean[]; layersPerBlock: number }): ModulePair[] {
  const { attention, layersPerBlock } = options;
  const last = attention.length - 1;
  const pairs: ModulePair[] = [
    ["time_embed.0", "time_embedding.linear_1"],
    ["time_embed.2", "time_embedding.linear_2"],
    ["label_emb.0.0", "add_embedding.linear_1"],
    ["label_emb.0.2", "add_embedding.linear_2"],
    ["input_blocks.0.0", "conv_in"],
    ...resnet("middle_block.0", "mid_block.resnets.0"),
    ["middle_block.1", "mid_block.attentions.0"],
    ...resnet("middle_block.2", "mid_block.resnets.1"),
    ["out.0", "conv_norm_out"],
    ["out.2", "conv_out"],
  ];
  attention.forEach((hasAttention, level) => {
    // Block 0 is conv_in. Each level except the last ends with a downsampler.
    let block = 1 + level * (layersPerBlock + 1);
    for (let layer = 0; layer < layersPerBlock; layer++, block++) {
      pairs.push(...resnet(`input_blocks.${block}.0`, `down_blocks.${level}.resnets.${layer}`));
      if (hasAttention) pairs.push([`input_blocks.${block}.1`, `down_blocks.${level}.attentions.${layer}`]);
    }
    if (level < last) pairs.push([`input_blocks.${block}.0.op`, `down_blocks.${level}.downsamplers.0.conv`]);
  });
  attention.toReversed().forEach((hasAttention, level) => {
    const first = level * (layersPerBlock + 1);
    for (let layer = 0; layer <= layersPerBlock; layer++) {
      const block = `output_blocks.${first + layer}`;
      pairs.push(...resnet(`${block}.0`, `up_blocks.${level}.resnets.${layer}`));
      if (hasAttention) pairs.push([`${block}.1`, `up_blocks.${level}.attentions.${layer}`]);
    }
    // The upsampler is the last module of the level's last block.
    const upsampler = `output_blocks.${first + layersPerBlock}.${hasAttention ? 2 : 1}.conv`;
    if (level < last) pairs.push([upsampler, `up_blocks.${level}.upsamplers.0.conv`]);
  });
  return pairs;
}

function resnet(ldm: string, diffusers: string): ModulePair[] {
  return [
    [`${ldm}.in_layers.0`, `${diffusers}.norm1`],
    [`${ldm}.in_layers.2`, `${diffusers}.conv1`],
    [`${ldm}.emb_layers.1`, `${diffusers}.time_emb_proj`],
    [`${ldm}.out_layers.0`, `${diffusers}.norm2`],
    [`${ldm}.out_layers.3`, `${diffusers}.conv2`],
    [`${ldm}.skip_connection`, `${diffusers}.conv_shortcut`],
  ];
}

/**
 * The modules of an autoencoder. LDM numbers the decoder's levels from the highest resolution,
 * diffusers from the lowest.
 */
export function vaeModules(options: { levels: number; layersPerBlock: number }): ModulePair[] {
  const { levels, layersPerBlock } = options;
  const pairs: ModulePair[] = [["quant_conv", "quant_conv"], ["post_quant_conv", "post_quant_conv"]];
  const block = (ldm: string, diffusers: string): ModulePair[] => [
    [`${ldm}.nin_shortcut`, `${diffusers}.conv_shortcut`],
    [ldm, diffusers],
  ];
  for (const half of ["encoder", "decoder"]) {
    pairs.push(
      [`${half}.conv_in`, `${half}.conv_in`],
      [`${half}.norm_out`, `${half}.conv_norm_out`],
      [`${half}.conv_out`, `${half}.conv_out`],
      ...block(`${half}.mid.block_1`, `${half}.mid_block.resnets.0`),
      ...block(`${half}.mid.block_2`, `${half}.mid_block.resnets.1`),
      [`${half}.mid.attn_1.norm`, `${half}.mid_block.attentions.0.group_norm`],
      [`${half}.mid.attn_1.q`, `${half}.mid_block.attentions.0.to_q`],
      [`${half}.mid.attn_1.k`, `${half}.mid_block.attentions.0.to_k`],
      [`${half}.mid.attn_1.v`, `${half}.mid_block.attentions.0.to_v`],
      [`${half}.mid.attn_1.proj_out`, `${half}.mid_block.attentions.0.to_out.0`],
    );
  }
  for (let level = 0; level < levels; level++) {
    for (let layer = 0; layer < layersPerBlock; layer++) {
      pairs.push(...block(`encoder.down.${level}.block.${layer}`, `encoder.down_blocks.${level}.resnets.${layer}`));
    }
    pairs.push([`encoder.down.${level}.downsample.conv`, `encoder.down_blocks.${level}.downsamplers.0.conv`]);
    const up = levels - 1 - level;
    for (let layer = 0; layer <= layersPerBlock; layer++) {
      pairs.push(...block(`decoder.up.${up}.block.${layer}`, `decoder.up_blocks.${level}.resnets.${layer}`));
    }
    pairs.push([`decoder.up.${up}.upsample.conv`, `decoder.up_blocks.${level}.upsamplers.0.conv`]);
  }
  return pairs;
}

/** OpenCLIP's projection [width, projection], which transformers stores transposed. */
export const openClipProjection = "text_projection";

/**
 * The modules of OpenCLIP's text encoder, except the fused query, key and value projections
 * ({@linkcode openClipFused}).
 */
export function openClipModules(options: { layers: number }): ModulePair[] {
  const pairs: ModulePair[] = [
    ["token_embedding", "text_model.embeddings.token_embedding"],
    ["positional_embedding", "text_model.embeddings.position_embedding.weight"],
    ["ln_final", "text_model.final_layer_norm"],
    [openClipProjection, "text_projection.weight"],
  ];
  for (let layer = 0; layer < options.layers; layer++) {
    const [ldm, diffusers] = openClipLayer(layer);
    pairs.push(
      [`${ldm}.ln_1`, `${diffusers}.layer_norm1`],
      [`${ldm}.ln_2`, `${diffusers}.layer_norm2`],
      [`${ldm}.attn.out_proj`, `${diffusers}.self_attn.out_proj`],
      [`${ldm}.mlp.c_fc`, `${diffusers}.mlp.fc1`],
      [`${ldm}.mlp.c_proj`, `${diffusers}.mlp.fc2`],
    );
  }
  return pairs;
}

/** A fused LDM tensor: the rows of three diffusers tensors, in this order. */
export interface FusedKeys {
  readonly ldm: string;
  readonly diffusers: readonly [query: string, key: string, value: string];
}

/**
 * The tensors of one OpenCLIP layer that hold the query, key and value projections together.
 */
export function openClipFused(layer: number): FusedKeys[] {
  const [ldm, diffusers] = openClipLayer(layer);
  return ["weight", "bias"].map((kind) => ({
    ldm: `${ldm}.attn.in_proj_${kind}`,
    diffusers: [
      `${diffusers}.self_attn.q_proj.${kind}`,
      `${diffusers}.self_attn.k_proj.${kind}`,
      `${diffusers}.self_attn.v_proj.${kind}`,
    ],
  }));
}

function openClipLayer(layer: number): ModulePair {
  return [`transformer.resblocks.${layer}`, `text_model.encoder.layers.${layer}`];
}
