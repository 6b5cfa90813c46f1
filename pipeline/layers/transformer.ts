import type { Tensor } from "../../engine/tensor.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { Attention, type KeysValues } from "./attention.ts";
import { Linear } from "./linear.ts";
import { GroupNorm, LayerNorm } from "./norm.ts";

/** What a cross-attention layer reads: its keys and values, by the layer. */
export type ContextOf = (layer: Attention) => KeysValues;

/** Linear → GEGLU (2002.05202) → Linear, four times as wide inside. */
class FeedForward {
  readonly #in: Linear;
  readonly #out: Linear;

  constructor(w: WeightScope, features: number) {
    this.#in = new Linear(w.at("net.0.proj"), features, 8 * features, { allowF16Operands: true });
    this.#out = new Linear(w.at("net.2"), 4 * features, features, { allowF16Operands: true });
  }

  forward(x: Tensor, residual: Tensor): Tensor {
    return this.#out.forward(this.#in.gated(x), { residual });
  }
}

/**
 * Self-attention, cross-attention to the prompt, feed-forward; a layer norm before each, a residual
 * around each.
 */
class BasicTransformerBlock {
  readonly #norm1: LayerNorm;
  readonly #norm2: LayerNorm;
  readonly #norm3: LayerNorm;
  readonly #attn1: Attention;
  readonly attn2: Attention;
  readonly #ff: FeedForward;

  constructor(w: WeightScope, features: number, heads: number, contextFeatures: number) {
    this.#norm1 = new LayerNorm(w.at("norm1"), features);
    this.#attn1 = new Attention(w.at("attn1"), features, heads);
    this.#norm2 = new LayerNorm(w.at("norm2"), features);
    this.attn2 = new Attention(w.at("attn2"), features, heads, contextFeatures);
    this.#norm3 = new LayerNorm(w.at("norm3"), features);
    this.#ff = new FeedForward(w.at("ff"), features);
  }

  /**
   * Takes [B, T, features]. Each part has its own scope, because the feed-forward's intermediate
   * tensor is eight times as wide as x.
   */
  forward(x: Tensor, contextOf: ContextOf): Tensor {
    const { gpu } = x;
    const attended = gpu.scope(() => this.#attn1.forward(this.#norm1.forward(x), { residual: x }));
    const informed = gpu.scope(() =>
      this.attn2.forward(this.#norm2.forward(attended), { context: contextOf(this.attn2), residual: attended })
    );
    return gpu.scope(() => this.#ff.forward(this.#norm3.forward(informed), informed));
  }
}

/** The dimensions of a {@linkcode Transformer2D}. */
export interface Transformer2DOptions {
  readonly channels: number;
  readonly heads: number;
  /** Width of the prompt's states. */
  readonly contextFeatures: number;
  /** Groups of the norm. */
  readonly groups: number;
  /** Number of transformer blocks, one behind the other. */
  readonly layers: number;
}

/**
 * A transformer over a picture's pixels (diffusers' `Transformer2DModel`). Whether `proj_in` and
 * `proj_out` are stored as 1×1 convolutions (SD 1.x) or as linear layers (SD 2.x) does not change
 * the result.
 */
export class Transformer2D {
  readonly #norm: GroupNorm;
  readonly #projIn: Linear;
  readonly #blocks: readonly BasicTransformerBlock[];
  readonly #projOut: Linear;

  constructor(w: WeightScope, { channels, heads, contextFeatures, groups, layers }: Transformer2DOptions) {
    this.#norm = new GroupNorm(w.at("norm"), channels, groups, 1e-6);
    this.#projIn = new Linear(w.at("proj_in"), channels, channels, { allowF16Operands: true });
    this.#blocks = Array.from(
      { length: layers },
      (_, layer) => new BasicTransformerBlock(w.at("transformer_blocks", layer), channels, heads, contextFeatures),
    );
    this.#projOut = new Linear(w.at("proj_out"), channels, channels, { allowF16Operands: true });
  }

  /** The layers that read the prompt. */
  get crossAttentions(): readonly Attention[] {
    return this.#blocks.map((block) => block.attn2);
  }

  forward(x: Tensor, contextOf: ContextOf): Tensor {
    const [batch, channels, height, width] = x.dims(4);
    return x.gpu.scope(() => {
      const picture = x.reshape([batch, channels, height * width]);
      let tokens = this.#projIn.fromChannels(this.#norm.forward(picture)); // [B, H·W, C]
      for (const block of this.#blocks) tokens = block.forward(tokens, contextOf);
      // [B, C, H, W]
      return this.#projOut.toChannels(tokens, { residual: picture }).reshape(x.shape);
    });
  }
}
