import type { Tensor } from "../../engine/tensor.ts";
import { attention } from "../../kernels/attention/attention.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import type { CLIPTransformerConfig } from "../checkpoint/diffusers/config/clip.ts";
import { Linear } from "./linear.ts";
import { LayerNorm } from "./norm.ts";

/** Self-attention with a bias on every projection. */
class SelfAttention {
  readonly #q: Linear;
  readonly #k: Linear;
  readonly #v: Linear;
  readonly #out: Linear;
  readonly #heads: number;

  constructor(w: WeightScope, features: number, heads: number) {
    [this.#q, this.#k, this.#v, this.#out] = ["q_proj", "k_proj", "v_proj", "out_proj"].map((name) =>
      new Linear(w.at(name), features, features)
    );
    this.#heads = heads;
  }

  forward(x: Tensor, residual: Tensor, causal: boolean): Tensor {
    const attended = attention(this.#q.forward(x), this.#k.forward(x), this.#v.forward(x), {
      heads: this.#heads,
      causal,
    });
    return this.#out.forward(attended, { residual });
  }
}

class EncoderLayer {
  readonly #norm1: LayerNorm;
  readonly #attention: SelfAttention;
  readonly #norm2: LayerNorm;
  readonly #fc1: Linear;
  readonly #fc2: Linear;
  readonly #config: CLIPTransformerConfig;

  constructor(w: WeightScope, config: CLIPTransformerConfig) {
    const { hiddenSize, intermediateSize, numAttentionHeads, layerNormEps } = config;
    this.#norm1 = new LayerNorm(w.at("layer_norm1"), hiddenSize, layerNormEps);
    this.#attention = new SelfAttention(w.at("self_attn"), hiddenSize, numAttentionHeads);
    this.#norm2 = new LayerNorm(w.at("layer_norm2"), hiddenSize, layerNormEps);
    this.#fc1 = new Linear(w.at("mlp.fc1"), hiddenSize, intermediateSize);
    this.#fc2 = new Linear(w.at("mlp.fc2"), intermediateSize, hiddenSize);
    this.#config = config;
  }

  forward(x: Tensor, causal: boolean): Tensor { // [B, T, hidden]
    return x.gpu.scope(() => {
      const attended = this.#attention.forward(this.#norm1.forward(x), x, causal);
      const inside = this.#fc1.forward(this.#norm2.forward(attended), { activation: this.#config.hiddenAct });
      return this.#fc2.forward(inside, { residual: attended });
    });
  }
}

/**
 * The stack of pre-norm transformer layers that CLIP's text and vision models share (2103.00020).
 */
export class ClipEncoder {
  readonly #layers: readonly EncoderLayer[];
  readonly #causal: boolean;

  constructor(w: WeightScope, config: CLIPTransformerConfig, options: { causal: boolean }) {
    this.#layers = Array.from(
      { length: config.numHiddenLayers },
      (_, i) => new EncoderLayer(w.at("layers", i), config),
    );
    this.#causal = options.causal;
  }

  /**
   * [B, T, hidden] through the layers: the output of all, and of all but the last `skip`, which
   * differ where `skip` is not 0.
   */
  forward(x: Tensor, options: { skip?: number } = {}): { last: Tensor; skipped: Tensor } {
    const end = this.#layers.length - (options.skip ?? 0);
    let last = x, skipped = x;
    this.#layers.forEach((layer, index) => {
      last = layer.forward(last, this.#causal);
      if (index < end) skipped = last;
    });
    return { last, skipped };
  }
}
