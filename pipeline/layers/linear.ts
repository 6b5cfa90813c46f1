import type { Tensor } from "../../engine/tensor.ts";
import type { Activation } from "../../kernels/activation.ts";
import { matmul } from "../../kernels/matmul.ts";
import type { WeightScope } from "../loading/binding.ts";

/** y = x Wᵀ + b, with W [out, in] as torch.nn.Linear stores it. */
export class Linear {
  readonly weight: Tensor; // [out, in]
  readonly bias: Tensor | undefined; // [out]

  constructor(w: WeightScope, inFeatures: number, outFeatures: number, options: { bias?: boolean } = {}) {
    this.weight = w.get("weight", [outFeatures, inFeatures]);
    this.bias = options.bias ?? true ? w.get("bias", [outFeatures]) : undefined;
  }

  /** [..., in] → [..., out], then the activation, then the residual [..., out]. */
  forward(x: Tensor, options: { activation?: Activation; residual?: Tensor } = {}): Tensor {
    return matmul(x, this.weight, { transposeB: true, bias: this.bias, ...options });
  }

  /** The same for features along the first axis: [B, in, T] → [B, T, out]. A picture's channels become the features of its tokens. */
  fromChannels(x: Tensor): Tensor {
    return matmul(x, this.weight, { transposeA: true, transposeB: true, bias: this.bias });
  }

  /** Back again: [B, T, in] → [B, out, T], plus the residual [B, out, T]. */
  toChannels(x: Tensor, options: { residual?: Tensor } = {}): Tensor {
    return matmul(this.weight, x, { transposeB: true, bias: this.bias, biasAxis: "row", ...options });
  }
}
