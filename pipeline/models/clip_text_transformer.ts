import { DTypeError, ShapeError } from "../../engine/errors.ts";
import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { embedding } from "../../kernels/shape/embedding.ts";
import { add } from "../../kernels/shape/linear_combination.ts";
import { ClipEncoder } from "../layers/clip_encoder.ts";
import { LayerNorm } from "../layers/norm.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import type { CLIPTextConfig } from "../checkpoint/diffusers/config/clip.ts";
import { maxSize } from "../checkpoint/diffusers/config/fields.ts";
import { NonFiniteError } from "../errors.ts";
import { shown } from "../shown.ts";

/**
 * CLIP's text transformer: `text_model` in text encoders and in complete CLIP models.
 */
export class ClipTextTransformer {
  readonly #tokens: Tensor; // [vocabulary, hidden]
  readonly #positions: Tensor; // [positions, hidden]
  readonly #encoder: ClipEncoder;
  readonly #finalNorm: LayerNorm;
  readonly #config: CLIPTextConfig;
  /**
   * Embeddings [hidden] of added tokens. They are small and uploaded with each prompt that uses
   * them.
   */
  #addedTokens = new Map<number, Float32Array>();

  constructor(w: WeightScope, config: CLIPTextConfig) {
    const { hiddenSize, vocabSize, maxPositionEmbeddings } = config;
    this.#tokens = w.get("embeddings.token_embedding.weight", [vocabSize, hiddenSize]);
    this.#positions = w.get("embeddings.position_embedding.weight", [maxPositionEmbeddings, hiddenSize]);
    this.#encoder = new ClipEncoder(w.at("encoder"), config, { causal: true });
    this.#finalNorm = new LayerNorm(w.at("final_layer_norm"), hiddenSize, config.layerNormEps);
    this.#config = config;
  }

  /** The embeddings of added tokens, by id. */
  get addedTokens(): ReadonlyMap<number, Float32Array> {
    return this.#addedTokens;
  }

  /** Records `body` with these added tokens in place of the present ones. */
  withAddedTokens<T>(tokens: ReadonlyMap<number, Float32Array>, body: () => T): T {
    const present = this.#addedTokens;
    this.#addedTokens = new Map(tokens);
    try {
      return body();
    } finally {
      this.#addedTokens = present;
    }
  }

  /**
   * Sets the embedding [hidden] of an id, which overrides the table. `undefined` removes it.
   */
  setAddedToken(id: number, embedding: Float32Array | undefined): void {
    const { hiddenSize } = this.#config;
    if (!(Number.isInteger(id) && id >= 0 && id < maxSize)) {
      throw new ShapeError(`Cannot set the embedding of token ${shown(id)} as it is no token id`);
    }
    if (embedding !== undefined && !(embedding instanceof Float32Array)) {
      throw new DTypeError(`Cannot add the token ${id} as its embedding must be a Float32Array: ${shown(embedding)}`);
    }
    if (embedding?.every(Number.isFinite) === false) {
      throw new NonFiniteError(`Cannot add the token ${id} as its embedding holds NaN or an infinity`);
    }
    if (embedding === undefined) this.#addedTokens.delete(id);
    else if (embedding.length !== hiddenSize) {
      throw new ShapeError(
        `Cannot add the token ${id} as embeddings have ${hiddenSize} elements, not ${embedding.length}`,
        [[
          embedding.length,
        ]],
      );
    } else this.#addedTokens.set(id, Float32Array.from(embedding));
  }

  /**
   * Encodes token ids (rows of equal length).
   *
   * @param options.skip number of layers to leave out at the end. It affects only `states`.
   * @param options.finalNorm whether `states` pass the final norm
   * @returns `states`, the hidden states [B, T, hidden], and `pooled` [B, hidden], the unskipped
   *   and normed states at the end-of-text tokens
   */
  forward(
    inputIds: readonly (readonly number[])[],
    { skip, finalNorm = true }: { skip: number; finalNorm?: boolean },
  ): { states: Tensor; pooled: Tensor } {
    const { gpu } = this.#tokens;
    const tokens = this.#check(inputIds);
    return gpu.scope(() => {
      const places = Tensor.from(
        gpu,
        Int32Array.from(inputIds.flatMap((row) => row.map((_, place) => place))),
        [inputIds.length, tokens],
      );
      const x = add(this.#embed(inputIds), embedding(this.#positions, places)); // [B, T, hidden]
      const { last, skipped } = this.#encoder.forward(x, { skip });
      const normed = this.#finalNorm.forward(last);
      const ends = Int32Array.from(inputIds, (row, b) => b * tokens + this.#endOf(row));
      const pooled = embedding(
        normed.reshape([inputIds.length * tokens, this.#config.hiddenSize]),
        Tensor.from(gpu, ends, [ends.length]),
      );
      if (!finalNorm) return { states: skipped, pooled };
      return { states: skip === 0 ? normed : this.#finalNorm.forward(skipped), pooled };
    });
  }

  /** Looks up the embeddings [B, T, hidden] in the token table and among the added tokens. */
  #embed(inputIds: readonly (readonly number[])[]): Tensor {
    const { gpu } = this.#tokens;
    const { hiddenSize } = this.#config;
    const isAdded = (id: number) => this.#addedTokens.has(id);
    const ids = inputIds.flat(), shape = [inputIds.length, ids.length / inputIds.length];
    const known = ids.map((id) => isAdded(id) ? 0 : id);
    // [B, T, hidden]
    const rows = embedding(this.#tokens, Tensor.from(gpu, Int32Array.from(known), shape));
    const added = [...new Set(ids.filter(isAdded))];
    if (added.length === 0) return rows;
    // A second lookup in a table that holds the rows found so far, followed by the added
    // embeddings.
    const values = new Float32Array(added.length * hiddenSize);
    added.forEach((id, i) => values.set(this.#addedTokens.get(id)!, i * hiddenSize));
    const table = concat([
      rows.reshape([ids.length, hiddenSize]),
      Tensor.from(gpu, values, [added.length, hiddenSize]),
    ], 0);
    const places = ids.map((id, place) => isAdded(id) ? ids.length + added.indexOf(id) : place);
    return embedding(table, Tensor.from(gpu, Int32Array.from(places), shape));
  }

  /**
   * The position of a row's end-of-text token. For the EOS id 2, which old configurations hold by
   * mistake, it is the position of the largest id, as in transformers.
   */
  #endOf(row: readonly number[]): number {
    const { eosTokenId } = this.#config;
    return eosTokenId === 2 ? row.indexOf(Math.max(...row)) : Math.max(row.indexOf(eosTokenId), 0);
  }

  #check(inputIds: readonly (readonly number[])[]): number {
    const { maxPositionEmbeddings, vocabSize } = this.#config;
    const tokens = inputIds[0]?.length ?? 0;
    const refuse = (why: string) => {
      throw new ShapeError(`Cannot encode token ids [${inputIds.length}, ${tokens}] as ${why}`, [[
        inputIds.length,
        tokens,
      ]]);
    };
    if (tokens === 0) refuse("there must be at least one");
    if (tokens > maxPositionEmbeddings) refuse(`this text encoder takes ${maxPositionEmbeddings} tokens at most`);
    for (const row of inputIds) {
      if (row.length !== tokens) refuse(`all rows must have the same length: ${row.length} ≠ ${tokens}`);
      const stranger = row.find((id) =>
        !(Number.isInteger(id) && id >= 0 && id < vocabSize || this.#addedTokens.has(id))
      );
      if (stranger !== undefined) refuse(`ids must be whole numbers below ${vocabSize}, not ${stranger}`);
    }
    return tokens;
  }
}
