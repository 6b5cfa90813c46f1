import type { Tensor } from "../../engine/tensor.ts";
import { Linear } from "../layers/linear.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { type CLIPConfig, parseCLIPConfig } from "../checkpoint/diffusers/config/clip.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { ClipVisionTransformer } from "./clip_vision.ts";
import { cosines } from "./cosines.ts";
import { buildModel, checkModel, loadModel, type LoadOptions, Model, type ModelKind, type ModelParts } from "./load.ts";

/** Concepts that diffusers checks a picture for, and those that make it check more strictly. */
const conceptCount = 17, specialCareCount = 3;

/** What is added to the scores of a picture once it comes near a special concept. */
const specialAdjustment = 0.01;

/**
 * Scores are rounded to 3 decimals, halves to even, before they are compared with 0: this is the
 * largest that becomes 0.
 */
const largestZero = 0.0005;

/** Embeddings of concepts, and the cosines from which on a picture shows them. */
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
 * The model that says which pictures are not safe for work (diffusers'
 * `StableDiffusionSafetyChecker`): CLIP's embedding of a picture, compared with embeddings of
 * concepts that its makers published without their names.
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
    directory: string | FileTree,
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
   * @throws {CheckpointError} that lists every missing, misshapen and unused key
   */
  static checkWeights(config: CLIPConfig, weights: Weights): void {
    checkModel(safetyCheckerKind, config, weights);
  }

  /** Reads the concepts back to the host, where they are compared. */
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
   * Which pictures show one of the concepts.
   *
   * A picture is flagged when round(cos − threshold + adjustment, 3 decimals) > 0 for any concept,
   * where the adjustment is 0.01 for pictures that come near a special concept by the same rule,
   * and otherwise 0.
   *
   * @param pixelValues [B, 3, S, S], as `CLIPImageProcessor` makes them
   * @returns one verdict per picture
   * @throws {ShapeError} for pictures of another size than the model's
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
        // for the special concepts that follow, too
        if (score > largestZero) adjustment = specialAdjustment;
      });
      return this.#concepts.thresholds.some((threshold, concept) =>
        likeness[picture * conceptCount + concept] - threshold + adjustment > largestZero
      );
    });
  }

  /**
   * CLIP's embeddings [B, projection] of pixel values [B, 3, S, S]; not normalized. @throws
   * {ShapeError}
   */
  embed(pixelValues: Tensor): Tensor {
    return this.gpu.scope(() => this.#modules.projection.forward(this.#modules.vision.forward(pixelValues)));
  }
}

/** How a safety checker is loaded. */
export const safetyCheckerKind: ModelKind<CLIPConfig, Modules> = {
  className: "StableDiffusionSafetyChecker",
  weightsName: "model",
  parseConfig: parseCLIPConfig,
  build: (w, config) => new Modules(w, config),
  // Old versions of transformers saved the row numbers of the position table.
  ignore: /position_ids$/,
};
