import { ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import { add } from "../../kernels/shape/linear_combination.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { slice } from "../../kernels/shape/slice.ts";
import { ClipEncoder } from "../layers/clip_encoder.ts";
import { LayerNorm } from "../layers/norm.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import type { CLIPVisionConfig } from "../checkpoint/diffusers/config/clip.ts";

/**
 * CLIP's vision transformer (arXiv 2103.00020): `vision_model` in CLIP models and safety checkers.
 * Its tokens are a class token, followed by the patches of the picture.
 */
export class ClipVisionTransformer {
  readonly #classToken: Tensor; // [hidden]
  readonly #patchWeight: Tensor; // [hidden, channels, patch, patch]
  readonly #positions: Tensor; // [1 + patches, hidden]
  readonly #preNorm: LayerNorm;
  readonly #encoder: ClipEncoder;
  readonly #postNorm: LayerNorm;
  readonly #config: CLIPVisionConfig;

  constructor(w: WeightScope, config: CLIPVisionConfig) {
    const { hiddenSize, numChannels, patchSize, layerNormEps } = config;
    const embeddings = w.at("embeddings");
    this.#classToken = embeddings.get("class_embedding", [hiddenSize]);
    this.#patchWeight = embeddings.get("patch_embedding.weight", [hiddenSize, numChannels, patchSize, patchSize]);
    this.#positions = embeddings.get("position_embedding.weight", [1 + patchesOf(config), hiddenSize]);
    // Misspelled in every checkpoint.
    this.#preNorm = new LayerNorm(w.at("pre_layrnorm"), hiddenSize, layerNormEps);
    this.#encoder = new ClipEncoder(w.at("encoder"), config, { causal: false });
    this.#postNorm = new LayerNorm(w.at("post_layernorm"), hiddenSize, layerNormEps);
    this.#config = config;
  }

  /**
   * Encodes pixel values [B, 3, S, S] from `CLIPImageProcessor`.
   *
   * @returns the pooled output [B, hidden]: the class token's last state after the final norm
   * @throws {ShapeError} if the pictures do not have the model's input size
   */
  forward(pixelValues: Tensor): Tensor {
    const { hiddenSize, numChannels, imageSize } = this.#config;
    const [batch, ...picture] = pixelValues.dims(4);
    if (picture.join() !== [numChannels, imageSize, imageSize].join()) {
      throw new ShapeError(
        `Cannot encode pixel values [${pixelValues.shape.join(", ")}] as this vision model takes ` +
          `[B, ${numChannels}, ${imageSize}, ${imageSize}]`,
        [pixelValues.shape],
      );
    }
    const { gpu } = pixelValues;
    const tokens = 1 + patchesOf(this.#config);
    return gpu.scope(() => {
      const places = Int32Array.from({ length: batch * tokens }, (_, i) => i % tokens);
      const embedded = add(
        concat([this.#classTokens(batch), this.#patches(pixelValues)], 1),
        embedding(this.#positions, Tensor.from(gpu, places, [batch, tokens])),
      ); // [B, 1 + P, hidden]
      const { last } = this.#encoder.forward(this.#preNorm.forward(embedded)); // [B, 1 + P, hidden]
      return this.#postNorm.forward(slice(last, 1, 0, 1).reshape([batch, hiddenSize]));
    });
  }

  #classTokens(batch: number): Tensor {
    const { gpu } = this.#classToken;
    const table = this.#classToken.reshape([1, this.#config.hiddenSize]);
    return embedding(table, Tensor.from(gpu, new Int32Array(batch), [batch, 1])); // [B, 1, hidden]
  }

  /**
   * Embeds the patches of pixels [B, C, S, S] as [B, P, hidden]. A convolution whose stride equals
   * its kernel size is a matrix product.
   */
  #patches(pixelValues: Tensor): Tensor {
    const { gpu, shape: [batch] } = pixelValues;
    const { hiddenSize, numChannels, imageSize, patchSize } = this.#config;
    const features = numChannels * patchSize * patchSize;
    // Gathers each patch as rows of `patchSize` contiguous pixels.
    const runs = pixelValues.reshape([pixelValues.size / patchSize, patchSize]);
    const across = imageSize / patchSize;
    const indices: number[] = [];
    for (let b = 0; b < batch; b++) {
      for (let patch = 0; patch < across * across; patch++) {
        const top = Math.floor(patch / across) * patchSize;
        for (let channel = 0; channel < numChannels; channel++) {
          for (let y = top; y < top + patchSize; y++) {
            indices.push(((b * numChannels + channel) * imageSize + y) * across + patch % across);
          }
        }
      }
    }
    // [B · P · C · patch, patch]
    const patches = embedding(runs, Tensor.from(gpu, Int32Array.from(indices), [indices.length]))
      .reshape([batch, across * across, features]);
    // [B, P, hidden]
    return matmul(patches, this.#patchWeight.reshape([hiddenSize, features]), { transposeB: true });
  }
}

function patchesOf({ imageSize, patchSize }: CLIPVisionConfig): number {
  return (imageSize / patchSize) ** 2;
}
