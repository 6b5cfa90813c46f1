import type { Tensor } from "../../engine/tensor.ts";
import { groupNorm } from "../../kernels/norm/group_norm.ts";
import { layerNorm } from "../../kernels/norm/layer_norm.ts";
import type { WeightScope } from "../checkpoint/bind.ts";

/** Group normalization (1803.08494) with a gain and a shift per channel. */
export class GroupNorm {
  readonly #weight: Tensor; // [channels]
  readonly #bias: Tensor; // [channels]

  constructor(w: WeightScope, channels: number, readonly groups: number, readonly epsilon: number) {
    this.#weight = w.get("weight", [channels]);
    this.#bias = w.get("bias", [channels]);
  }

  /** Any [B, channels, …]; `silu` applies the activation that follows in residual blocks. */
  forward(x: Tensor, activation?: "silu"): Tensor {
    const { groups, epsilon } = this;
    return groupNorm(x, { groups, weight: this.#weight, bias: this.#bias, epsilon, activation });
  }
}

/** Layer normalization (1607.06450) of the last axis. */
export class LayerNorm {
  readonly #weight: Tensor; // [features]
  readonly #bias: Tensor; // [features]

  constructor(w: WeightScope, features: number, readonly epsilon = 1e-5) {
    this.#weight = w.get("weight", [features]);
    this.#bias = w.get("bias", [features]);
  }

  /** [..., features] → the same */
  forward(x: Tensor): Tensor {
    return layerNorm(x, { weight: this.#weight, bias: this.#bias, epsilon: this.epsilon });
  }
}
