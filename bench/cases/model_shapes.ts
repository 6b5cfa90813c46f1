/** Names and shapes of tensors, by configuration, as diffusers 0.23 names them. */

/** Tensors by name. */
export type Shapes = Map<string, readonly number[]>;

/** A transformer of a UNet's block. */
interface TransformerShape {
  /** Width of the text embeddings. */
  readonly context: number;
  readonly layers: number;
  /** Whether the outer projections are linear layers rather than 1×1 convolutions. */
  readonly isLinear: boolean;
}

/** Collects the tensors of modules by module name. */
class Builder {
  readonly shapes: Shapes = new Map();

  linear(name: string, input: number, output: number, options: { bias?: boolean } = {}): void {
    this.shapes.set(`${name}.weight`, [output, input]);
    if (options.bias ?? true) this.shapes.set(`${name}.bias`, [output]);
  }

  conv(name: string, input: number, output: number, kernel = 3): void {
    this.shapes.set(`${name}.weight`, [output, input, kernel, kernel]);
    this.shapes.set(`${name}.bias`, [output]);
  }

  norm(name: string, channels: number): void {
    this.shapes.set(`${name}.weight`, [channels]);
    this.shapes.set(`${name}.bias`, [channels]);
  }

  resnet(name: string, input: number, output: number, timeFeatures?: number): void {
    this.norm(`${name}.norm1`, input);
    this.conv(`${name}.conv1`, input, output);
    if (timeFeatures !== undefined) this.linear(`${name}.time_emb_proj`, timeFeatures, output);
    this.norm(`${name}.norm2`, output);
    this.conv(`${name}.conv2`, output, output);
    if (input !== output) this.conv(`${name}.conv_shortcut`, input, output, 1);
  }

  attention(name: string, features: number, context: number): void {
    this.linear(`${name}.to_q`, features, features, { bias: false });
    this.linear(`${name}.to_k`, context, features, { bias: false });
    this.linear(`${name}.to_v`, context, features, { bias: false });
    this.linear(`${name}.to_out.0`, features, features);
  }

  transformer(name: string, channels: number, options: TransformerShape): void {
    const { context, layers, isLinear } = options;
    const projection = (path: string) =>
      isLinear ? this.linear(path, channels, channels) : this.conv(path, channels, channels, 1);
    this.norm(`${name}.norm`, channels);
    projection(`${name}.proj_in`);
    for (let layer = 0; layer < layers; layer++) {
      const block = `${name}.transformer_blocks.${layer}`;
      for (const norm of ["norm1", "norm2", "norm3"]) this.norm(`${block}.${norm}`, channels);
      this.attention(`${block}.attn1`, channels, channels);
      this.attention(`${block}.attn2`, channels, context);
      this.linear(`${block}.ff.net.0.proj`, channels, 8 * channels);
      this.linear(`${block}.ff.net.2`, 4 * channels, channels);
    }
    projection(`${name}.proj_out`);
  }
}

/** The fields that determine the shapes of a UNet's tensors. */
export interface UNetConfigJson {
  readonly block_out_channels: readonly number[];
  readonly layers_per_block: number;
  readonly cross_attention_dim: number;
  readonly down_block_types: readonly string[];
  readonly up_block_types: readonly string[];
  /** Layers of a block's transformers, from the highest resolution to the lowest. Default: 1. */
  readonly transformer_layers_per_block?: number | readonly number[];
  readonly use_linear_projection?: boolean;
  /** Width of SDXL's pooled embeddings and sizes. Default: none. */
  readonly projection_class_embeddings_input_dim?: number | null;
}

/** Names and shapes of the tensors of a UNet. */
export function unetShapes(config: UNetConfigJson): Shapes {
  const { block_out_channels: widths, layers_per_block: layers, cross_attention_dim: context } = config;
  const { transformer_layers_per_block: depths = 1, projection_class_embeddings_input_dim: added } = config;
  const build = new Builder();
  const time = 4 * widths[0];
  const transformerAt = (level: number): TransformerShape => ({
    context,
    layers: typeof depths === "number" ? depths : depths[level],
    isLinear: config.use_linear_projection ?? false,
  });
  build.linear("time_embedding.linear_1", widths[0], time);
  build.linear("time_embedding.linear_2", time, time);
  if (added != null) {
    build.linear("add_embedding.linear_1", added, time);
    build.linear("add_embedding.linear_2", time, time);
  }
  build.conv("conv_in", 4, widths[0]);
  const skips = [widths[0]];
  let channels = widths[0];
  config.down_block_types.forEach((type, level) => {
    for (let layer = 0; layer < layers; layer++) {
      build.resnet(`down_blocks.${level}.resnets.${layer}`, channels, widths[level], time);
      channels = widths[level];
      if (type.startsWith("CrossAttn")) {
        build.transformer(`down_blocks.${level}.attentions.${layer}`, channels, transformerAt(level));
      }
      skips.push(channels);
    }
    if (level === widths.length - 1) return;
    build.conv(`down_blocks.${level}.downsamplers.0.conv`, channels, channels);
    skips.push(channels);
  });
  for (const layer of [0, 1]) build.resnet(`mid_block.resnets.${layer}`, channels, channels, time);
  build.transformer("mid_block.attentions.0", channels, transformerAt(widths.length - 1));
  config.up_block_types.forEach((type, level) => {
    const mirrored = widths.length - 1 - level;
    const width = widths[mirrored];
    for (let layer = 0; layer <= layers; layer++) {
      build.resnet(`up_blocks.${level}.resnets.${layer}`, channels + skips.pop()!, width, time);
      channels = width;
      if (type.startsWith("CrossAttn")) {
        build.transformer(`up_blocks.${level}.attentions.${layer}`, channels, transformerAt(mirrored));
      }
    }
    if (level < widths.length - 1) build.conv(`up_blocks.${level}.upsamplers.0.conv`, channels, channels);
  });
  build.norm("conv_norm_out", channels);
  build.conv("conv_out", channels, 4);
  return build.shapes;
}

/** The fields that determine the shapes of an autoencoder's tensors. */
export interface VaeConfigJson {
  readonly block_out_channels: readonly number[];
  readonly layers_per_block: number;
  readonly latent_channels: number;
}

/** Names and shapes of the tensors of an autoencoder. */
export function vaeShapes(config: VaeConfigJson): Shapes {
  const { block_out_channels: widths, layers_per_block: layers, latent_channels: latent } = config;
  const build = new Builder();
  const top = widths.at(-1)!;
  const middle = (half: string): void => {
    for (const layer of [0, 1]) build.resnet(`${half}.mid_block.resnets.${layer}`, top, top);
    build.norm(`${half}.mid_block.attentions.0.group_norm`, top);
    for (const name of ["to_q", "to_k", "to_v", "to_out.0"]) {
      build.linear(`${half}.mid_block.attentions.0.${name}`, top, top);
    }
  };
  build.conv("encoder.conv_in", 3, widths[0]);
  let channels = widths[0];
  widths.forEach((width, level) => {
    for (let layer = 0; layer < layers; layer++) {
      build.resnet(`encoder.down_blocks.${level}.resnets.${layer}`, channels, width);
      channels = width;
    }
    if (level < widths.length - 1) build.conv(`encoder.down_blocks.${level}.downsamplers.0.conv`, channels, channels);
  });
  middle("encoder");
  build.norm("encoder.conv_norm_out", top);
  build.conv("encoder.conv_out", top, 2 * latent);
  build.conv("quant_conv", 2 * latent, 2 * latent, 1);
  build.conv("post_quant_conv", latent, latent, 1);
  build.conv("decoder.conv_in", latent, top);
  middle("decoder");
  channels = top;
  widths.toReversed().forEach((width, level) => {
    for (let layer = 0; layer <= layers; layer++) {
      build.resnet(`decoder.up_blocks.${level}.resnets.${layer}`, channels, width);
      channels = width;
    }
    if (level < widths.length - 1) build.conv(`decoder.up_blocks.${level}.upsamplers.0.conv`, channels, channels);
  });
  build.norm("decoder.conv_norm_out", channels);
  build.conv("decoder.conv_out", channels, 3);
  return build.shapes;
}

/** The fields that determine the shapes of a text encoder's tensors. */
export interface TextConfigJson {
  readonly architectures: readonly string[];
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly max_position_embeddings: number;
  readonly num_hidden_layers: number;
  readonly projection_dim: number;
  readonly vocab_size: number;
}

/** Names and shapes of the tensors of a text encoder, with the projection that its class has. */
export function textShapes(config: TextConfigJson): Shapes {
  const { hidden_size: hidden, intermediate_size: inside } = config;
  const build = new Builder();
  build.shapes.set("text_model.embeddings.token_embedding.weight", [config.vocab_size, hidden]);
  build.shapes.set("text_model.embeddings.position_embedding.weight", [config.max_position_embeddings, hidden]);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const path = `text_model.encoder.layers.${layer}`;
    for (const name of ["k_proj", "v_proj", "q_proj", "out_proj"]) {
      build.linear(`${path}.self_attn.${name}`, hidden, hidden);
    }
    build.norm(`${path}.layer_norm1`, hidden);
    build.linear(`${path}.mlp.fc1`, hidden, inside);
    build.linear(`${path}.mlp.fc2`, inside, hidden);
    build.norm(`${path}.layer_norm2`, hidden);
  }
  build.norm("text_model.final_layer_norm", hidden);
  if (config.architectures.includes("CLIPTextModelWithProjection")) {
    build.linear("text_projection", hidden, config.projection_dim, { bias: false });
  }
  return build.shapes;
}
