import type { DType } from "../../engine/dtype.ts";
import type { Tensor } from "../../engine/tensor.ts";
import type { Activation } from "../../kernels/wgsl/activation.ts";
import { gatedProduct, geglu } from "../../kernels/gemm/gated_product.ts";
import { matmul, type MatmulOptions } from "../../kernels/gemm/matmul.ts";
import { transpose } from "../../kernels/shape/transpose.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import type { LayerUpdates } from "../adapters/layer_updates.ts";

/** x Wᵀ for one layout of x and of the result. */
type Product = (x: Tensor, weight: Tensor, options?: MatmulOptions) => Tensor;

/** [..., in] → [..., out] */
const plain: Product = (x, weight, options) => matmul(x, weight, { ...options, transposeB: true });

/**
 * [B, in, T] → [B, T, out]. Reading x along its columns would cost more than transposing it first,
 * and be another kernel to compile.
 */
const fromChannels: Product = (x, weight, options) => plain(transpose(x), weight, options);

/**
 * [B, T, in] → [B, out, T]. Transposing costs some 0.1 % of a UNet's step; a product that writes
 * columns would be another kernel to compile.
 */
const toChannels: Product = (x, weight, { residual, ...options } = {}) =>
  transpose(plain(x, weight, options), { residual });

/** y = x Wᵀ + b, with W [out, in] as torch.nn.Linear stores it. */
export class Linear {
  /** [out, in] */
  readonly weight: Tensor;
  /** [out] */
  readonly bias: Tensor | undefined;
  readonly #updates: LayerUpdates<Tensor>;
  readonly #allowF16Operands: boolean;

  /**
   * `allowF16Operands`: see {@linkcode MatmulOptions}. The UNet's and the VAE's may; the text
   * encoder's may not, since an edit amplifies what it is given.
   */
  constructor(
    w: WeightScope,
    inFeatures: number,
    outFeatures: number,
    options: { bias?: boolean; allowF16Operands?: boolean } = {},
  ) {
    this.#allowF16Operands = options.allowF16Operands ?? false;
    this.weight = w.get("weight", [outFeatures, inFeatures]);
    this.bias = options.bias ?? true ? w.get("bias", [outFeatures]) : undefined;
    this.#updates = w.adaptable({
      shape: [outFeatures, inFeatures],
      pack: (weight) => weight,
      unpack: (weight) => weight.data(),
      read: () => this.weight.data(),
    });
  }

  /**
   * [..., in] → [..., out], then the activation, then the residual [..., out]. `dtype` is the
   * result's type, else x's.
   */
  forward(x: Tensor, options: { activation?: Activation; residual?: Tensor; dtype?: DType } = {}): Tensor {
    return this.#apply(x, { whole: plain, down: plain, up: plain }, options);
  }

  /** [..., in] → [..., out / 2]: the first half of the features, gated by the second (GEGLU). */
  gated(x: Tensor): Tensor {
    // what LoRAs add comes before the gate
    if (this.#updates.acts) return x.gpu.scope(() => geglu(this.forward(x)));
    return gatedProduct(x, this.weight, { bias: this.bias, allowF16Operands: this.#allowF16Operands });
  }

  /**
   * The same for features along the first axis: [B, in, T] → [B, T, out]. A picture's channels
   * become the features of its tokens.
   */
  fromChannels(x: Tensor): Tensor {
    return this.#apply(x, { whole: fromChannels, down: fromChannels, up: plain });
  }

  /** Back again: [B, T, in] → [B, out, T], plus the residual [B, out, T]. */
  toChannels(x: Tensor, options: { residual?: Tensor } = {}): Tensor {
    return this.#apply(x, { whole: toChannels, down: plain, up: toChannels }, options);
  }

  /**
   * The product in the form `whole`; of a LoRA's two factors the first reads x and the second
   * writes y, each in its form.
   */
  #apply(
    x: Tensor,
    form: { whole: Product; down: Product; up: Product },
    options: { activation?: Activation; residual?: Tensor; dtype?: DType } = {},
  ): Tensor {
    const { dtype = x.dtype } = options;
    const allowF16Operands = this.#allowF16Operands;
    return this.#updates.apply(options, {
      gpu: x.gpu,
      bias: this.bias,
      base: (epilogue) => form.whole(x, this.weight, { allowF16Operands, ...epilogue, dtype }),
      change: ({ weight, up, scale, residual }) => {
        const last = { scale, residual, allowF16Operands, dtype };
        if (up === undefined) return form.whole(x, weight, last);
        // What lies between the factors is small, and its rows need not divide by four as f16 would
        // want.
        return form.up(form.down(x, weight, { allowF16Operands, dtype: "f32" }), up, last);
      },
    });
  }
}
