import type { DType } from "../../engine/dtype.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { attention } from "../../kernels/attention/attention.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { Linear } from "./linear.ts";

/** Keys and values of one attention layer, each [B, S, features]. */
export interface KeysValues {
  /** [B, S, features] */
  readonly keys: Tensor;
  /** [B, S, features] */
  readonly values: Tensor;
}

/**
 * Multi-head attention of the UNet's transformer blocks (diffusers' `Attention`): queries from the
 * picture; keys and values from the picture too, or from the prompt (cross-attention:
 * `contextFeatures` given).
 */
export class Attention {
  /** The checkpoint's key of this layer. */
  readonly path: string;
  /** Projection to keys. */
  readonly toK: Linear;
  /** Projection to values. */
  readonly toV: Linear;
  readonly #toQ: Linear;
  readonly #toOut: Linear;
  readonly #heads: number;

  /** Requests the weights of the layer in scope `w`. */
  constructor(w: WeightScope, features: number, heads: number, contextFeatures = features) {
    this.path = w.path;
    this.#toQ = new Linear(w.at("to_q"), features, features, { bias: false, allowF16Operands: true });
    this.toK = new Linear(w.at("to_k"), contextFeatures, features, { bias: false, allowF16Operands: true });
    this.toV = new Linear(w.at("to_v"), contextFeatures, features, { bias: false, allowF16Operands: true });
    this.#toOut = new Linear(w.at("to_out.0"), features, features, { allowF16Operands: true });
    this.#heads = heads;
  }

  /**
   * Projects states [B, S, contextFeatures] to keys and values. Those of a prompt do not depend on
   * the picture, so they are computed once per call, not once per step. The states of keys and
   * values differ if an edit applies to only one of them. `dtype` is the type of the results; by
   * default, that of the states.
   */
  project(keyStates: Tensor, valueStates: Tensor = keyStates, options: { dtype?: DType } = {}): KeysValues {
    return { keys: this.toK.forward(keyStates, options), values: this.toV.forward(valueStates, options) };
  }

  /** x [B, T, features] attends to `context`, or to itself; plus the residual. */
  forward(x: Tensor, options: { context?: KeysValues; residual?: Tensor } = {}): Tensor {
    const { keys, values } = options.context ?? this.project(x);
    // [B, T, features]
    const attended = attention(this.#toQ.forward(x), keys, values, {
      heads: this.#heads,
      allowF16Operands: true,
    });
    return this.#toOut.forward(attended, { residual: options.residual });
  }
}
