import type { Tensor } from "../../engine/tensor.ts";
import { groupNorm } from "../../kernels/norm/group_norm.ts";
import { layerNorm } from "../../kernels/norm/layer_norm.ts";
import type { Activation } from "../../kernels/wgsl/activation.ts";
import type { LayerUpdates } from "../adapters/layer_updates.ts";
import type { WeightScope } from "../checkpoint/bind.ts";

/** Group normalization (1803.08494) with a gain and a shift per channel. */
export class GroupNorm {
  readonly #weight: Tensor; // [channels]
  readonly #bias: Tensor; // [channels]
  readonly #updates: LayerUpdates<Tensor>;

  constructor(w: WeightScope, channels: number, readonly groups: number, readonly epsilon: number) {
    this.#weight = w.get("weight", [channels]);
    this.#bias = w.get("bias", [channels]);
    this.#updates = adaptable(w, channels, () => this.#weight.data());
  }

  /** @param x [B, channels, …] @param activation fused: residual blocks apply SiLU next */
  forward(x: Tensor, activation?: Activation): Tensor {
    const { groups, epsilon } = this;
    return this.#updates.withParameters(
      this.#weight,
      this.#bias,
      (weight, bias) => groupNorm(x, { groups, weight, bias, epsilon, activation }),
    );
  }
}

/** Layer normalization (1607.06450) of the last axis. */
export class LayerNorm {
  readonly #weight: Tensor; // [features]
  readonly #bias: Tensor; // [features]
  readonly #updates: LayerUpdates<Tensor>;

  constructor(w: WeightScope, features: number, readonly epsilon = 1e-5) {
    this.#weight = w.get("weight", [features]);
    this.#bias = w.get("bias", [features]);
    this.#updates = adaptable(w, features, () => this.#weight.data());
  }

  /** [..., features] → the same */
  forward(x: Tensor): Tensor {
    const { epsilon } = this;
    return this.#updates.withParameters(
      this.#weight,
      this.#bias,
      (weight, bias) => layerNorm(x, { weight, bias, epsilon }),
    );
  }
}

/** Lets adapters change a normalization's gain and shift. */
function adaptable(w: WeightScope, features: number, read: () => Promise<Float32Array<ArrayBuffer>>) {
  return w.adaptable<Tensor>({
    shape: [features],
    pack: (weight) => weight,
    unpack: (weight) => weight.data(),
    read,
  });
}
