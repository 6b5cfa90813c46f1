/** Checks that the components of a pipeline work together. */

import { advise } from "./advice.ts";
import { entriesOf } from "./component_table.ts";
import type { PipelineComponents, XLPipelineComponents } from "./components.ts";
import type { ModelFamily } from "./checkpoint/diffusers/config/model_index.ts";
import { CheckpointError, ConfigError } from "./errors.ts";
import { checkArgument } from "./options.ts";

/**
 * Checks that components work together.
 *
 * @throws {OptionError} for a component that is missing, or of another class
 * @throws {CheckpointError} for a safety checker without a feature extractor
 * @throws {ConfigError} when the UNet's channels are not the autoencoder's latent channels, the
 *   text encoder's width is not the UNet's, or the UNet is one of SDXL
 */
export function checkComponents(components: PipelineComponents): void {
  checkClasses(components, "sd");
  const { vae, unet, textEncoder, safetyChecker, featureExtractor } = components;
  checkLatentChannels({ vae, unet });
  if (unet.config.textTime) {
    throw new ConfigError(
      'Cannot build a pipeline of Stable Diffusion 1.x or 2.x as the UNet\'s addition_embed_type is "text_time": ' +
        "it is one of SDXL. Build a StableDiffusionXLPipeline of it",
      { source: unet.weights.source, key: "addition_embed_type", value: "text_time" },
    );
  }
  const { hiddenSize } = textEncoder.config;
  if (hiddenSize !== unet.config.crossAttentionDim) {
    throw new ConfigError(
      `Cannot build a pipeline as the UNet's cross_attention_dim must be the text encoder's hidden_size: ` +
        `${unet.config.crossAttentionDim} ≠ ${hiddenSize}. Use a UNet and a text encoder of the same model family`,
      { source: unet.weights.source, key: "cross_attention_dim", value: unet.config.crossAttentionDim },
    );
  }
  if (safetyChecker && !featureExtractor) {
    throw new CheckpointError(
      `Cannot build a pipeline as a safety checker needs a feature extractor: give both, or ${advise("skipChecker")}`,
      { source: "featureExtractor" },
    );
  }
}

/**
 * Checks that the components of an SDXL pipeline work together.
 *
 * @throws {OptionError} for a component that is missing, or of another class
 * @throws {ConfigError} when the UNet's channels are not the autoencoder's latent channels, the
 *   UNet is not one of SDXL, or its widths are not those of both text encoders
 */
export function checkXLComponents(components: XLPipelineComponents): void {
  checkClasses(components, "sdxl");
  const { vae, unet, textEncoder, textEncoder2 } = components;
  checkLatentChannels({ vae, unet });
  const { textTime, crossAttentionDim } = unet.config;
  const refuse = (key: string, value: unknown, why: string): never => {
    throw new ConfigError(`Cannot build an SDXL pipeline as ${why}`, { source: unet.weights.source, key, value });
  };
  if (textTime === null) {
    return refuse(
      "addition_embed_type",
      null,
      'the UNet\'s addition_embed_type must be "text_time", and it is null: it is one of Stable Diffusion 1.x or 2.x. ' +
        "Build a StableDiffusionPipeline of it",
    );
  }
  const widths = [textEncoder.config.hiddenSize, textEncoder2.config.hiddenSize];
  if (widths[0] + widths[1] !== crossAttentionDim) {
    refuse(
      "cross_attention_dim",
      crossAttentionDim,
      `the UNet's cross_attention_dim must be the sum of both text encoders' hidden_size: ${crossAttentionDim} ≠ ` +
        `${widths.join(" + ")}. Use a UNet and text encoders of the same model family`,
    );
  }
  const inputDim = textEncoder2.config.projectionDim + timeIdCount * textTime.timeEmbedDim;
  if (inputDim !== textTime.inputDim) {
    refuse(
      "projection_class_embeddings_input_dim",
      textTime.inputDim,
      `the UNet's projection_class_embeddings_input_dim must be the second text encoder's projection_dim plus ` +
        `${timeIdCount} times addition_time_embed_dim: ${textTime.inputDim} ≠ ${inputDim}. An SDXL refiner differs in ` +
        "it, and is not supported",
    );
  }
}

/** Sizes that SDXL's base model is conditioned on: original size, crop and target size. */
const timeIdCount = 6;

/** @throws {OptionError} for a component that is missing, or of another class */
function checkClasses(components: Partial<PipelineComponents>, family: ModelFamily): void {
  for (const [key, { instance, isRequired }] of entriesOf(family)) {
    const value: unknown = components[key as keyof PipelineComponents];
    if (isRequired || (value !== undefined && value !== null)) {
      checkArgument("build a pipeline", key, value, instance);
    }
  }
}

function checkLatentChannels({ vae, unet }: Pick<PipelineComponents, "vae" | "unet">): void {
  const { latentChannels } = vae.config;
  for (
    const [key, channels] of [["in_channels", unet.config.inChannels], [
      "out_channels",
      unet.config.outChannels,
    ]] as const
  ) {
    if (channels === latentChannels) continue;
    throw new ConfigError(
      `Cannot build a pipeline as the UNet's ${key} must be the autoencoder's latent_channels: ` +
        `${channels} ≠ ${latentChannels}. Use a UNet and an autoencoder of the same model family`,
      { source: unet.weights.source, key, value: channels },
    );
  }
}
