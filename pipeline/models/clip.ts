import { Tensor } from "../../engine/tensor.ts";
import { PromptError } from "../errors.ts";
import { CLIPImageProcessor } from "../image/clip_image_processor.ts";
import { ImageError } from "../image/errors.ts";
import type { Picture } from "../image/picture.ts";
import { Linear } from "../layers/linear.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { type CLIPConfig, parseCLIPConfig } from "../checkpoint/diffusers/config/clip.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { openTree } from "../checkpoint/source/disk.ts";
import { CLIPTokenizer } from "../text/tokenizer.ts";
import { ClipTextTransformer } from "./clip_text_transformer.ts";
import { ClipVisionTransformer } from "./clip_vision.ts";
import { cosines } from "./cosines.ts";
import { buildModel, checkModel, loadModel, type LoadOptions, Model, type ModelKind, type ModelParts } from "./load.ts";

/**
 * Pictures or prompts per batch: large enough to occupy the GPU, small enough for its memory.
 */
const batchSize = 16;

class Modules {
  readonly text: ClipTextTransformer;
  readonly vision: ClipVisionTransformer;
  readonly textProjection: Linear;
  readonly visualProjection: Linear;
  readonly logitScale: Tensor; // []

  constructor(w: WeightScope, { text, vision, projectionDim }: CLIPConfig) {
    this.text = new ClipTextTransformer(w.at("text_model"), text);
    this.vision = new ClipVisionTransformer(w.at("vision_model"), vision);
    this.textProjection = new Linear(w.at("text_projection"), text.hiddenSize, projectionDim, { bias: false });
    this.visualProjection = new Linear(w.at("visual_projection"), vision.hiddenSize, projectionDim, { bias: false });
    this.logitScale = w.get("logit_scale", []);
  }
}

/** The image processor and tokenizer of a CLIP model. */
export interface ClipPreprocessing {
  readonly tokenizer: CLIPTokenizer;
  readonly imageProcessor: CLIPImageProcessor;
}

/**
 * CLIP (arXiv 2103.00020; transformers' `CLIPModel`). Embeds pictures and prompts in a common
 * space, in which a picture is close to the prompts that describe it.
 *
 * ```ts
 * using clip = await CLIPModel.fromPretrained("models/pocket/clip", { gpu });
 * const [red, blue] = await clip.score([picture], ["a red rose", "a blue rose"]);
 * console.log(red > blue);
 * ```
 */
export class CLIPModel extends Model<CLIPConfig> {
  /** The tokenizer of the texts. */
  readonly tokenizer: CLIPTokenizer;
  /** Prepares the pictures. */
  readonly imageProcessor: CLIPImageProcessor;
  /**
   * The factor applied to cosines in {@linkcode score}: the exponential of the file's
   * `logit_scale`.
   */
  readonly logitScale: number;
  readonly #modules: Modules;

  private constructor(
    parts: ModelParts<CLIPConfig, Modules>,
    { tokenizer, imageProcessor, logitScale }: ClipPreprocessing & { readonly logitScale: number },
  ) {
    super(parts);
    this.tokenizer = tokenizer;
    this.imageProcessor = imageProcessor;
    this.logitScale = logitScale;
    this.#modules = parts.modules;
  }

  /**
   * Loads a folder as transformers saves a CLIP model with its processor: `config.json`,
   * `model*.safetensors`, `preprocessor_config.json` and the tokenizer's files.
   *
   * @throws {CheckpointError} when files are missing, or weights and configuration disagree
   * @throws {ConfigError} for another kind of model
   */
  static async fromPretrained(directory: string | URL | FileTree, options: LoadOptions): Promise<CLIPModel> {
    const tree = await openTree(directory);
    const imageProcessor = await CLIPImageProcessor.fromPretrained(tree);
    const tokenizer = await CLIPTokenizer.fromPretrained(tree);
    return await CLIPModel.#create(await loadModel(clipKind, tree, options), { tokenizer, imageProcessor });
  }

  /** Builds the model of `config` on `weights`, whose keys are transformers'. */
  static async fromWeights(
    config: CLIPConfig,
    weights: Weights,
    options: LoadOptions & ClipPreprocessing,
  ): Promise<CLIPModel> {
    return await CLIPModel.#create(await buildModel(clipKind, config, weights, options), options);
  }

  /**
   * Checks weights against `config` by names and shapes alone. It needs no device.
   *
   * @throws {CheckpointError} that lists every missing and misshapen key
   */
  static checkWeights(config: CLIPConfig, weights: Weights): void {
    checkModel(clipKind, config, weights);
  }

  /** Reads the scale of the logits back to the host. */
  static async #create(
    parts: ModelParts<CLIPConfig, Modules>,
    { tokenizer, imageProcessor }: ClipPreprocessing,
  ): Promise<CLIPModel> {
    using owned = new DisposableStack();
    owned.use(parts.weights);
    const logitScale = Math.exp((await parts.modules.logitScale.data())[0]);
    owned.move(); // the model owns the weights
    return new CLIPModel(parts, { tokenizer, imageProcessor, logitScale });
  }

  /**
   * Scores each picture against each prompt: logits, `logitScale` · cos(picture, prompt). Their
   * softmax over the prompts gives CLIP's probabilities.
   *
   * @returns [images, prompts], row-major
   * @throws {ImageError} without pictures
   * @throws {PromptError} without prompts
   */
  async score(images: readonly Picture[], prompts: readonly string[]): Promise<Float32Array<ArrayBuffer>> {
    if (images.length === 0) throw new ImageError("Cannot score without pictures: give at least one");
    if (prompts.length === 0) throw new PromptError("Cannot score pictures without a prompt to compare them with");
    const pictureEmbeddings = await this.embedImages(images);
    const promptEmbeddings = await this.embedPrompts(prompts);
    const likeness = cosines(pictureEmbeddings, promptEmbeddings, { width: this.config.projectionDim });
    return Float32Array.from(likeness, (cosine) => this.logitScale * cosine); // [images, prompts]
  }

  /**
   * Embeds pictures, in batches.
   *
   * @returns [images, projectionDim], not normalized
   * @throws {ImageError} if a picture's data does not match its size
   * @throws {ShapeError} if the processor's size is not the model's
   */
  async embedImages(images: readonly Picture[]): Promise<Float32Array<ArrayBuffer>> {
    return await this.#inBatches(images, (batch) => {
      const pixelValues = batch.map((image) => this.imageProcessor.preprocess(image));
      const { width, height } = this.imageProcessor.outputSize(batch[0]);
      return this.getImageFeatures(Tensor.from(this.gpu, joined(pixelValues), [batch.length, 3, height, width]));
    });
  }

  /**
   * Embeds prompts, in batches. Prompts longer than 77 tokens are truncated.
   *
   * @returns [prompts, projectionDim], not normalized
   */
  async embedPrompts(prompts: readonly string[]): Promise<Float32Array<ArrayBuffer>> {
    return await this.#inBatches(prompts, (batch) => {
      const rows = batch.map((prompt) => this.tokenizer.encode(prompt, { truncation: true }));
      // Attention is causal, so padding does not change the result: pad to the longest prompt only.
      const length = Math.max(...rows.map((row) => row.length));
      return this.getTextFeatures(
        rows.map((row) => [...row, ...Array<number>(length - row.length).fill(this.tokenizer.padTokenId)]),
      );
    });
  }

  /**
   * Pixel values [B, 3, S, S] to embeddings [B, projectionDim], not normalized.
   *
   * @throws {ShapeError} for other sizes
   */
  getImageFeatures(pixelValues: Tensor): Tensor {
    return this.gpu.scope(() => this.#modules.visualProjection.forward(this.#modules.vision.forward(pixelValues)));
  }

  /**
   * Token ids, rows of one length, to embeddings [B, projectionDim], not normalized.
   *
   * @throws {ShapeError} as `CLIPTextModel.forward()`
   */
  getTextFeatures(inputIds: readonly (readonly number[])[]): Tensor {
    return this.gpu.scope(() =>
      this.#modules.textProjection.forward(this.#modules.text.forward(inputIds, { skip: 0 }).pooled)
    );
  }

  async #inBatches<T>(items: readonly T[], embed: (batch: readonly T[]) => Tensor): Promise<Float32Array<ArrayBuffer>> {
    const parts: Float32Array[] = [];
    for (let first = 0; first < items.length; first += batchSize) {
      using embeddings = this.gpu.scope(() => embed(items.slice(first, first + batchSize)));
      parts.push(await embeddings.data());
    }
    return joined(parts);
  }
}

/** Loader of the CLIP model. */
export const clipKind: ModelKind<CLIPConfig, Modules> = {
  className: "CLIPModel",
  weightsName: "model",
  parseConfig: parseCLIPConfig,
  build: (w, config) => new Modules(w, config),
};

function joined(parts: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const whole = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
