/**
 * The sizes of the published models, as keys of their `config.json`. What is not here is what the
 * classes default to, or what no tensor's shape depends on.
 */

const textSizes = (width: number, { layers, heads }: { layers: number; heads: number }) => ({
  hidden_size: width,
  intermediate_size: 4 * width,
  num_hidden_layers: layers,
  num_attention_heads: heads,
});

/** CLIP ViT-L/14's text encoder, of 1.x and the first of SDXL. */
const clipL = textSizes(768, { layers: 12, heads: 12 });

/** Stable Diffusion 1.x. */
export const sd1Sizes = {
  unet: {
    attention_head_dim: 8,
    block_out_channels: [320, 640, 1280, 1280],
    cross_attention_dim: 768,
    down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    layers_per_block: 2,
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  },
  textEncoder: clipL,
};

/** Stable Diffusion 2.x; the published text encoder is without OpenCLIP's last layer. */
export const sd2Sizes = {
  unet: { ...sd1Sizes.unet, attention_head_dim: [5, 10, 20, 20], cross_attention_dim: 1024 },
  textEncoder: textSizes(1024, { layers: 23, heads: 16 }),
};

/** SDXL's base model. */
export const sdxlSizes = {
  unet: {
    addition_embed_type: "text_time",
    addition_time_embed_dim: 256,
    attention_head_dim: [5, 10, 20],
    block_out_channels: [320, 640, 1280],
    cross_attention_dim: 2048,
    down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    layers_per_block: 2,
    projection_class_embeddings_input_dim: 2816,
    transformer_layers_per_block: [1, 2, 10],
    up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  },
  textEncoder: clipL,
  textEncoder2: { ...textSizes(1280, { layers: 32, heads: 20 }), projection_dim: 1280 },
};

/** A family of published models. */
export interface PublishedFamily {
  readonly name: "Stable Diffusion 1.x" | "Stable Diffusion 2.x" | "SDXL";
  /** The name after "Stable Diffusion". */
  readonly version: "1.x" | "2.x" | "XL";
  /** Width of the prompts' embeddings that the UNet reads. */
  readonly promptWidth: number;
  /** Widths of the text encoders. */
  readonly encoderWidths: readonly number[];
}

const families: readonly PublishedFamily[] = [
  {
    name: "Stable Diffusion 1.x",
    version: "1.x",
    promptWidth: sd1Sizes.unet.cross_attention_dim,
    encoderWidths: [sd1Sizes.textEncoder.hidden_size],
  },
  {
    name: "Stable Diffusion 2.x",
    version: "2.x",
    promptWidth: sd2Sizes.unet.cross_attention_dim,
    encoderWidths: [sd2Sizes.textEncoder.hidden_size],
  },
  {
    name: "SDXL",
    version: "XL",
    promptWidth: sdxlSizes.unet.cross_attention_dim,
    encoderWidths: [sdxlSizes.textEncoder.hidden_size, sdxlSizes.textEncoder2.hidden_size],
  },
];

/** The family whose prompts' embeddings have a width; `undefined` for a width of none. */
export function familyOfPromptWidth(width: number | undefined): PublishedFamily | undefined {
  return families.find(({ promptWidth }) => promptWidth === width);
}

/** The family whose text encoders have these widths, in this order; `undefined` for none. */
export function familyOfEncoderWidths(widths: readonly number[]): PublishedFamily | undefined {
  return families.find(({ encoderWidths }) => encoderWidths.join() === widths.join());
}
