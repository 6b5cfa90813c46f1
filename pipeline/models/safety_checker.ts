import type { Tensor } from "../../engine/tensor.ts";
import { Linear } from "../layers/linear.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { type CLIPConfig, parseCLIPConfig } from "../checkpoint/diffusers/config/clip.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { ClipVisionTransformer } from "./clip_vision.ts";
import { cosines } from "./cosines.ts";
import { buildModel, checkModel, loadModel, type LoadOptions, Model, type ModelKind, type ModelParts } from "./load.ts";

/** Number of unsafe concepts, and of special-care concepts, which lower the thresholds. */
const conceptCount = 17, specialCareCount = 3;

/** Added to a picture's scores after a special-care concept has matched. */
const specialAdjustment = 0.01;

/**
 * diffusers rounds scores to 3 decimals, halves to even, and tests whether the result is above 0.
 * This is the largest score that rounds to 0.
 */
const largestZero = 0.0005;

/** Embeddings of concepts, and the cosine similarity above which a picture matches each. */
interface Concepts<T> {
  readonly embeddings: T; // [concepts, projection]
  readonly thresholds: T; // [concepts]
}

class Modules {
  readonly vision: ClipVisionTransformer;
  readonly projection: Linear;
  readonly concepts: Concepts<Tensor>;
  readonly specialCare: Concepts<Tensor>;

  constructor(w: WeightScope, { vision, projectionDim }: CLIPConfig) {
    this.vision = new ClipVisionTransformer(w.at("vision_model.vision_model"), vision);
    this.projection = new Linear(w.at("visual_projection"), vision.hiddenSize, projectionDim, { bias: false });
    const concepts = (key: string, count: number): Concepts<Tensor> => ({
      embeddings: w.get(key, [count, projectionDim]),
      thresholds: w.get(`${key}_weights`, [count]),
    });
    this.concepts = concepts("concept_embeds", conceptCount);
    this.specialCare = concepts("special_care_embeds", specialCareCount);
  }
}

/**
 * Classifies pictures as safe or not safe for work (diffusers' `StableDiffusionSafetyChecker`). It
 * compares a picture's CLIP embedding with embeddings of unsafe concepts, which were published
 * without their names.
 *
 * ```ts
 * const folder = "stable-diffusion-v1-4/safety_checker";
 * using checker = await StableDiffusionSafetyChecker.fromPretrained(folder, { gpu });
 * using pixelValues = Tensor.from(gpu, extractor.preprocess(picture), [1, 3, 224, 224]);
 * const [isFlagged] = await checker.check(pixelValues);
 * ```
 */
export class StableDiffusionSafetyChecker extends Model<CLIPConfig> {
  readonly #modules: Modules;
  readonly #concepts: Concepts<Float32Array>;
  readonly #specialCare: Concepts<Float32Array>;

  private constructor(
    parts: ModelParts<CLIPConfig, Modules>,
    { concepts, specialCare }: { concepts: Concepts<Float32Array>; specialCare: Concepts<Float32Array> },
  ) {
    super(parts);
    this.#modules = parts.modules;
    this.#concepts = concepts;
    this.#specialCare = specialCare;
  }

  /**
   * Loads a folder that holds `config.json` and `model*.safetensors`.
   *
   * @throws {CheckpointError} when files are missing, or weights and configuration disagree
   * @throws {ConfigError} for another kind of model
   */
  static async fromPretrained(
    directory: string | URL | FileTree,
    options: LoadOptions,
  ): Promise<StableDiffusionSafetyChecker> {
    return await StableDiffusionSafetyChecker.#create(await loadModel(safetyCheckerKind, directory, options));
  }

  /** Builds the model of `config` on `weights`, whose keys are diffusers'. */
  static async fromWeights(
    config: CLIPConfig,
    weights: Weights,
    options: LoadOptions,
  ): Promise<StableDiffusionSafetyChecker> {
    return await StableDiffusionSafetyChecker.#create(await buildModel(safetyCheckerKind, config, weights, options));
  }

  /**
   * Checks weights against `config` by names and shapes alone. It needs no device.
   *
   * @throws {CheckpointError} that lists every missing and misshapen key
   */
  static checkWeights(config: CLIPConfig, weights: Weights): void {
    checkModel(safetyCheckerKind, config, weights);
  }

  /** Reads the concepts back: the comparison runs on the host. */
  static async #create(parts: ModelParts<CLIPConfig, Modules>): Promise<StableDiffusionSafetyChecker> {
    using owned = new DisposableStack();
    owned.use(parts.weights);
    const read = async ({ embeddings, thresholds }: Concepts<Tensor>): Promise<Concepts<Float32Array>> => ({
      embeddings: await embeddings.data(),
      thresholds: await thresholds.data(),
    });
    const concepts = {
      concepts: await read(parts.modules.concepts),
      specialCare: await read(parts.modules.specialCare),
    };
    owned.move(); // the checker owns the weights
    return new StableDiffusionSafetyChecker(parts, concepts);
  }

  /**
   * Flags the pictures that match an unsafe concept.
   *
   * A picture matches a concept if round(cos − threshold + adjustment, 3 decimals) > 0. The
   * adjustment is 0.01 if the picture has matched a special-care concept by the same rule, and
   * otherwise 0.
   *
   * @param pixelValues [B, 3, S, S], from `CLIPImageProcessor`
   * @returns for each picture, whether it is flagged
   * @throws {ShapeError} if the pictures do not have the model's input size
   */
  async check(pixelValues: Tensor): Promise<boolean[]> {
    using embeddings = this.embed(pixelValues);
    const [batch, width] = embeddings.dims(2);
    const rows = await embeddings.data();
    const likeness = cosines(rows, this.#concepts.embeddings, { width }); // [B, 17]
    const specialLikeness = cosines(rows, this.#specialCare.embeddings, { width }); // [B, 3]
    return Array.from({ length: batch }, (_, picture) => {
      let adjustment = 0;
      this.#specialCare.thresholds.forEach((threshold, concept) => {
        const score = specialLikeness[picture * specialCareCount + concept] - threshold + adjustment;
        // As in diffusers, this also lowers the thresholds of the remaining special-care concepts.
        if (score > largestZero) adjustment = specialAdjustment;
      });
      return this.#concepts.thresholds.some((threshold, concept) =>
        likeness[picture * conceptCount + concept] - threshold + adjustment > largestZero
      );
    });
  }

  /**
   * Embeds pixel values [B, 3, S, S] as [B, projection], not normalized.
   *
   * @throws {ShapeError} if the pictures do not have the model's input size
   */
  embed(pixelValues: Tensor): Tensor {
    return this.gpu.scope(() => this.#modules.projection.forward(this.#modules.vision.forward(pixelValues)));
  }
}

/** Loader of the safety checker. */
export const safetyCheckerKind: ModelKind<CLIPConfig, Modules> = {
  className: "StableDiffusionSafetyChecker",
  weightsName: "model",
  parseConfig: parseCLIPConfig,
  build: (w, config) => new Modules(w, config),
};
