/**
 * Updates of one layer at run time: y = (W + Σ sᵢ ΔWᵢ) x + b + Σ sᵢ Δbᵢ. ΔW is a product of two
 * thin factors (LoRA, arXiv 2106.09685) or a matrix of the weight's own size. W is never modified,
 * so removing an update restores the model exactly, and scales can differ between calls.
 */

import { ShapeError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { activate } from "../../kernels/shape/activate.ts";
import type { Activation } from "../../kernels/wgsl/activation.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { add, linearCombination } from "../../kernels/shape/linear_combination.ts";

/** A product of two thin factors: ΔW = scale · up · down. */
export interface LowRankChange {
  /** [rank, in], or [rank, in, k, k] for a convolution. */
  readonly down: Tensor;
  /** [out, rank] */
  readonly up: Tensor;
  /** Factor of the product: α / rank. */
  readonly scale: number;
}

/** An adapter's update of one layer at strength 1. A part that is `undefined` changes nothing. */
export interface LayerUpdate {
  /** ΔW as a product. */
  readonly lowRank?: LowRankChange;
  /** ΔW as it is, of the weight's shape. */
  readonly weight?: Tensor;
  /** Δb: [out]. */
  readonly bias?: Tensor;
}

/** Frees the tensors of updates. */
export function disposeUpdates(updates: Iterable<LayerUpdate>): void {
  for (const { lowRank, weight, bias } of updates) {
    for (const tensor of [lowRank?.down, lowRank?.up, weight, bias]) tensor?.[Symbol.dispose]();
  }
}

/** A loaded adapter and its current weight. */
export interface Adapter {
  readonly name: string;
  /** 0 after its removal. */
  weight: number;
  /** Snapshots that hold its tensors. */
  holders: number;
}

/** What a layer tells about itself. `Packed` is the form in which it multiplies by a weight. */
export interface AdaptableLayer<Packed extends Disposable> {
  /** Shape of the weight: [out, in], [out, in, k, k], or [channels] for a normalization. */
  readonly shape: readonly number[];
  /** Converts a weight [rows, in, …] to the layer's form and takes ownership of the tensor. */
  readonly pack: (weight: Tensor) => Packed;
  /** Undoes `pack` on the host: the elements of the weight [rows, in, …]. */
  readonly unpack: (packed: Packed) => Promise<Float32Array<ArrayBuffer>>;
  /** Reads the layer's own weight back in the layout of `shape`. */
  readonly read: () => Promise<Float32Array<ArrayBuffer>>;
}

/** The operations that follow a layer's matrix product or convolution. */
interface Epilogue {
  readonly activation?: Activation;
  readonly residual?: Tensor;
}

/** A weight's change in the layer's form. */
interface Term<Packed> {
  readonly adapter: Adapter;
  /** The first factor, or the whole change where there is no `up`. */
  readonly weight: Packed;
  /** [out, rank] */
  readonly up: Tensor | undefined;
  readonly scale: number;
}

interface BiasTerm {
  readonly adapter: Adapter;
  readonly bias: Tensor; // [out]
}

/** How a layer computes with its weight and with the changes of it. */
interface LayerProducts<Packed> {
  readonly gpu: Gpu;
  /** The layer's own bias [out]. */
  readonly bias: Tensor | undefined;
  /** W x + bias, then the epilogue. */
  readonly base: (options: Epilogue & { readonly bias: Tensor | undefined }) => Tensor;
  /** scale · ΔW x + residual; ΔW is `weight`, or `up` · `weight`. */
  readonly change: (
    term: {
      readonly weight: Packed;
      readonly up: Tensor | undefined;
      readonly scale: number;
      readonly residual: Tensor | undefined;
    },
  ) => Tensor;
}

/** Computes the change of a weight or a bias, on the host. */
export type ComputedChange = () => Promise<Float32Array<ArrayBuffer>>;

/** strength · up · down: [out, rank] by [rank, …]. */
async function timesFactor(
  up: Tensor,
  down: Float32Array<ArrayBuffer>,
  strength: number,
): Promise<Float32Array<ArrayBuffer>> {
  const rank = up.shape[1];
  using right = Tensor.from(up.gpu, down, [rank, down.length / rank]);
  using product = matmul(up, right, { scale: strength });
  return await product.data();
}

function summed(parts: readonly Float32Array<ArrayBuffer>[]): Float32Array<ArrayBuffer> {
  const [first, ...others] = parts;
  if (others.length === 0) return first;
  return first.map((value, i) => others.reduce((sum, part) => sum + part[i], value));
}

/** The updates of one layer, by adapter. */
export class LayerUpdates<Packed extends Disposable = Disposable> {
  /** The layer that they update. */
  readonly layer: AdaptableLayer<Packed>;
  readonly #strengthOf: (adapter: Adapter) => number;
  #terms: Term<Packed>[] = [];
  #biases: BiasTerm[] = [];

  /** @param strengthOf the factor of an adapter in the call that is being recorded */
  constructor(layer: AdaptableLayer<Packed>, strengthOf: (adapter: Adapter) => number) {
    this.layer = layer;
    this.#strengthOf = strengthOf;
  }

  /** Whether any update has an effect in the call that is being recorded. */
  get acts(): boolean {
    const isOn = ({ adapter }: { adapter: Adapter }) => this.#strengthOf(adapter) !== 0;
    return this.#terms.some((term) => isOn(term) && term.scale !== 0) || this.#biases.some(isOn);
  }

  /**
   * Computes activation((W + Σ sᵢ ΔWᵢ) x + b + Σ sᵢ Δbᵢ) + residual.
   *
   * @param epilogue the epilogue of the whole expression
   */
  apply(epilogue: Epilogue, { gpu, bias, base, change }: LayerProducts<Packed>): Tensor {
    if (!this.acts) return base({ ...epilogue, bias });
    return gpu.scope(() => {
      const { activation, residual } = epilogue;
      const changedBias = this.#sum(bias, this.#biases.map(({ bias, adapter }) => ({ tensor: bias, adapter })));
      // The activation applies after the updates and before the residual.
      const start = activation ? undefined : residual;
      const sum = this.#terms.reduce((residual: Tensor | undefined, { weight, up, scale, adapter }) => {
        const strength = scale * this.#strengthOf(adapter);
        return strength === 0 ? residual : change({ weight, up, scale: strength, residual });
      }, start);
      const y = base({ residual: sum, bias: changedBias });
      if (!activation) return y;
      const activated = activate(y, activation);
      return residual ? add(activated, residual) : activated;
    });
  }

  /**
   * Computes with the gain and the shift of a normalization, changed by its updates.
   *
   * @param body receives both; they are freed when it returns
   */
  withParameters(weight: Tensor, bias: Tensor, body: (weight: Tensor, bias: Tensor) => Tensor): Tensor {
    if (!this.acts) return body(weight, bias);
    return weight.gpu.scope(() => {
      const gains = this.#terms.map(({ weight, adapter }) => ({ tensor: weight as unknown as Tensor, adapter }));
      const shifts = this.#biases.map(({ bias, adapter }) => ({ tensor: bias, adapter }));
      return body(this.#sum(weight, gains)!, this.#sum(bias, shifts)!);
    });
  }

  /** own + Σ sᵢ · changeᵢ, in f32. */
  #sum(own: Tensor | undefined, changes: readonly { tensor: Tensor; adapter: Adapter }[]): Tensor | undefined {
    return changes.reduce((sum, { tensor, adapter }) => {
      const change = { tensor, coefficient: this.#strengthOf(adapter) };
      if (change.coefficient === 0) return sum;
      // The result has the dtype of the first term, and changes are f32.
      return linearCombination(sum ? [change, { tensor: sum, coefficient: 1 }] : [change]);
    }, own);
  }

  /**
   * Σ sᵢ ΔWᵢ [out, in, …] with the strengths of the call that is being recorded, to be computed
   * later; `undefined` where nothing changes the weight.
   */
  get weightChange(): ComputedChange | undefined {
    const terms = this.#terms.map((term) => ({ ...term, strength: term.scale * this.#strengthOf(term.adapter) }))
      .filter(({ strength }) => strength !== 0);
    if (terms.length === 0) return undefined;
    return async () => {
      const parts = await Promise.all(terms.map(async ({ weight, up, strength }) => {
        const own = await this.layer.unpack(weight);
        return up ? await timesFactor(up, own, strength) : own.map((value) => strength * value);
      }));
      return summed(parts);
    };
  }

  /** Σ sᵢ Δbᵢ [out], as {@linkcode weightChange}. */
  get biasChange(): ComputedChange | undefined {
    const terms = this.#biases.map(({ bias, adapter }) => ({ bias, strength: this.#strengthOf(adapter) }))
      .filter(({ strength }) => strength !== 0);
    if (terms.length === 0) return undefined;
    return async () => {
      const parts = terms.map(async ({ bias, strength }) => (await bias.data()).map((value) => strength * value));
      return summed(await Promise.all(parts));
    };
  }

  /** @throws {ShapeError} if an update does not fit the layer */
  check(path: string, update: LayerUpdate): void {
    const why = updateMisfit(this.layer, update);
    if (why !== undefined) throw new ShapeError(`Cannot adapt ${path} as ${why}`, [this.layer.shape]);
  }

  /** Adds an adapter's update, which has been checked. The caller still owns its tensors. */
  attach({ lowRank, weight, bias }: LayerUpdate, adapter: Adapter): void {
    const { shape: [out, ...inside], pack } = this.layer;
    if (lowRank) {
      const { down, up, scale } = lowRank;
      const [rank] = down.shape;
      const packed = pack(down.reshape([rank, ...inside]));
      this.#terms.push({ weight: packed, up: up.reshape([out, rank]), scale, adapter });
    }
    if (weight) this.#terms.push({ weight: pack(weight.reshape([out, ...inside])), up: undefined, scale: 1, adapter });
    if (bias) this.#biases.push({ bias: bias.reshape([out]), adapter });
  }

  /** Removes and frees an adapter's update of this layer, if there is one. */
  detach(adapter: Adapter): void {
    for (const term of this.#terms) {
      if (term.adapter !== adapter) continue;
      term.weight[Symbol.dispose]();
      term.up?.[Symbol.dispose]();
    }
    for (const term of this.#biases) if (term.adapter === adapter) term.bias[Symbol.dispose]();
    this.#terms = this.#terms.filter((term) => term.adapter !== adapter);
    this.#biases = this.#biases.filter((term) => term.adapter !== adapter);
  }
}

function updateMisfit(
  { shape }: { readonly shape: readonly number[] },
  { lowRank, weight, bias }: LayerUpdate,
): string | undefined {
  return (lowRank && misfit(shape, lowRank.down.shape, lowRank.up.shape)) ??
    (weight && wholeMisfit(shape, weight.shape)) ??
    (bias && wholeMisfit(shape.slice(0, 1), bias.shape));
}

/**
 * Returns the reason why two factors do not fit a layer with a weight [out, in, …], or `undefined`
 * if they fit. Trailing axes of length 1 are ignored: a 1×1 convolution equals a linear layer.
 */
export function misfit(
  layer: readonly number[],
  down: readonly number[],
  up: readonly number[],
): string | undefined {
  const [rank] = down;
  const [out, ...inside] = layer;
  if (inside.length === 0) return "a normalization has no matrix for factors to update";
  if (down.length < 2 || up.length < 2) return `its factors must be matrices: [${down.join(", ")}], [${up.join(", ")}]`;
  if (rank === 0) return "its rank must be above 0";
  if (up[1] !== rank) return `the ranks of its factors must agree: down has ${rank}, up has ${up[1]}`;
  if (!fits(down, [rank, ...inside])) return `down must be [${[rank, ...inside].join(", ")}]: [${down.join(", ")}]`;
  if (!fits(up, [out, rank])) return `up must be [${out}, ${rank}]: [${up.join(", ")}]`;
  return undefined;
}

/** The same for a change of `wanted`'s own shape. */
export function wholeMisfit(wanted: readonly number[], actual: readonly number[]): string | undefined {
  return fits(actual, wanted) ? undefined : `the change must be [${wanted.join(", ")}]: [${actual.join(", ")}]`;
}

function fits(actual: readonly number[], wanted: readonly number[]): boolean {
  return trimmed(actual).join() === trimmed(wanted).join();
}

/** Returns the shape without trailing axes of length 1. */
export function trimmed(shape: readonly number[]): readonly number[] {
  return shape.slice(0, shape.findLastIndex((length) => length !== 1) + 1);
}
