/** `config.json` of the CLIP models. @module */

import { checkDivides, Fields, maxLayers, maxSide } from "./fields.ts";

/**
 * Activations of the CLIP models. `quick_gelu` is x · sigmoid(1.702 x); `gelu` is the exact GELU,
 * x · (1 + erf(x / √2)) / 2.
 */
export type ClipActivation = "quick_gelu" | "gelu";

/** Settings that CLIP's text and vision models share. */
export interface CLIPTransformerConfig {
  /** Width of the hidden states. */
  readonly hiddenSize: number;
  /** Width of the feed-forward layers. */
  readonly intermediateSize: number;
  /** Number of layers. */
  readonly numHiddenLayers: number;
  /** Number of attention heads. */
  readonly numAttentionHeads: number;
  /** Activation of the feed-forward layers. */
  readonly hiddenAct: ClipActivation;
  /** Epsilon of the layer norms. */
  readonly layerNormEps: number;
  /** Width of the joint embedding space of text and pictures. */
  readonly projectionDim: number;
}

/** `text_encoder/config.json`: transformers' `CLIPTextModel`. */
export interface CLIPTextConfig extends CLIPTransformerConfig {
  /** Number of token embeddings. */
  readonly vocabSize: number;
  /** Tokens of a prompt, including the start and end tokens. */
  readonly maxPositionEmbeddings: number;
  /**
   * The pooled output is taken at the first position of this id. Old files hold 2 by mistake; for
   * them it is taken at the position of the largest id.
   */
  readonly eosTokenId: number;
}

/** The vision model of transformers' `CLIPModel`. */
export interface CLIPVisionConfig extends CLIPTransformerConfig {
  /** Channels of the picture. */
  readonly numChannels: number;
  /** Side of the picture in pixels. */
  readonly imageSize: number;
  /** Side of a patch in pixels. */
  readonly patchSize: number;
}

/** `config.json` of transformers' `CLIPModel`, and of diffusers' `StableDiffusionSafetyChecker`. */
export interface CLIPConfig {
  /** The configuration of the text model. */
  readonly text: CLIPTextConfig;
  /** The configuration of the vision model. */
  readonly vision: CLIPVisionConfig;
  /** Width of the space that texts and images share. */
  readonly projectionDim: number;
}

/** transformers' "gelu_python" is the "gelu" with erf by another name. */
function clipActivation(fields: Fields): ClipActivation {
  const name = fields.oneOf("hidden_act", "quick_gelu", ["quick_gelu", "gelu", "gelu_python"]);
  return name === "gelu_python" ? "gelu" : name;
}

function parseTransformer(
  fields: Fields,
  defaults: { hiddenSize: number; intermediateSize: number; heads: number },
): CLIPTransformerConfig {
  const hiddenSize = fields.count("hidden_size", defaults.hiddenSize);
  const numAttentionHeads = fields.count("num_attention_heads", defaults.heads);
  checkDivides(fields, "hidden_size", [hiddenSize], [numAttentionHeads]);
  return {
    hiddenSize,
    intermediateSize: fields.count("intermediate_size", defaults.intermediateSize),
    numHiddenLayers: fields.count("num_hidden_layers", 12, maxLayers),
    numAttentionHeads,
    hiddenAct: clipActivation(fields),
    layerNormEps: fields.epsilon("layer_norm_eps", 1e-5),
    projectionDim: fields.count("projection_dim", 512),
  };
}

function parseText(fields: Fields): CLIPTextConfig {
  const eosTokenId = fields.number("eos_token_id", 49407);
  return {
    ...parseTransformer(fields, { hiddenSize: 512, intermediateSize: 2048, heads: 8 }),
    vocabSize: fields.count("vocab_size", 49408),
    maxPositionEmbeddings: fields.count("max_position_embeddings", 77),
    eosTokenId: Number.isSafeInteger(eosTokenId) && eosTokenId >= 0
      ? eosTokenId
      : fields.refuse("eos_token_id", "a token id"),
  };
}

function parseVision(fields: Fields): CLIPVisionConfig {
  const imageSize = fields.count("image_size", 224, maxSide);
  const patchSize = fields.count("patch_size", 32);
  if (imageSize % patchSize !== 0) fields.refuse("patch_size", `a divisor of image_size, ${imageSize}`);
  return {
    ...parseTransformer(fields, { hiddenSize: 768, intermediateSize: 3072, heads: 12 }),
    numChannels: fields.count("num_channels", 3),
    imageSize,
    patchSize,
  };
}

/**
 * Reads a CLIP text model's configuration from its own file, or from that of a complete CLIP model.
 *
 * @throws {ConfigError} for other text encoders (T5, BERT) and for activations that CLIP does not
 *   use.
 */
export function parseCLIPTextConfig(json: unknown, file: string): CLIPTextConfig {
  const fields = new Fields(json, file);
  if (fields.value("model_type") === "clip") return parseCLIPConfig(json, file).text;
  fields.only("model_type", "clip_text_model");
  fields.only("quantization_config", null, { hint: "quantized weights are not read" });
  return parseText(fields);
}

/**
 * Reads the configuration of a complete CLIP model.
 *
 * Old files repeat the settings of a model as `text_config_dict` or `vision_config_dict`. As in
 * transformers, these replace `text_config` or `vision_config` entirely; missing keys get defaults.
 *
 * @throws {ConfigError} for other models.
 */
export function parseCLIPConfig(json: unknown, file: string): CLIPConfig {
  const fields = new Fields(json, file);
  fields.only("model_type", "clip");
  const half = (name: string): Fields => {
    if (fields.value(`${name}_dict`) != null) return fields.object(`${name}_dict`);
    return fields.value(name) == null ? new Fields({}, file) : fields.object(name);
  };
  return {
    text: parseText(half("text_config")),
    vision: parseVision(half("vision_config")),
    projectionDim: fields.count("projection_dim", 512),
  };
}
