/**
 * Low-rank updates of layers at run time (LoRA, arXiv 2106.09685): y = W x + Σ scale · up (down x).
 * W is never modified, so removing an update restores the model exactly, and the scale can differ
 * between calls.
 */

import { ShapeError } from "../../engine/errors.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { activate } from "../../kernels/shape/activate.ts";
import type { Activation } from "../../kernels/wgsl/activation.ts";
import { add } from "../../kernels/shape/linear_combination.ts";

/** An update of one layer, in the layout of LoRA files. */
export interface LowRankUpdate {
  /** [rank, in], or [rank, in, k, k] for a convolution. */
  readonly down: Tensor;
  /** [out, rank] */
  readonly up: Tensor;
  /** Factor of the product: α / rank. */
  readonly scale: number;
}

/** The operations that follow a layer's matrix product or convolution. */
interface Epilogue {
  readonly activation?: Activation;
  readonly residual?: Tensor;
}

/** One adapter's update of a layer, in the layer's layout. */
interface Term<Down extends Disposable> {
  readonly down: Down;
  readonly up: Tensor; // [out, rank]
  readonly scale: number;
  readonly adapter: Adapter;
}

interface Adapter {
  readonly name: string;
  weight: number;
}

/**
 * The updates of one layer. `Down` is the type of the prepared first factor: a matrix, or a packed
 * convolution.
 */
export class LowRankUpdates<Down extends Disposable = Disposable> {
  readonly #stack: AdapterStack;
  readonly #prepare: (down: Tensor) => Down;
  #terms: Term<Down>[] = [];

  /**
   * @param shape of the layer's weight: [out, in], or [out, in, k, k]
   * @param prepare converts a first factor [rank, in, …] to the layer's layout and takes ownership
   *   of the tensor
   */
  constructor(stack: AdapterStack, readonly shape: readonly number[], prepare: (down: Tensor) => Down) {
    this.#stack = stack;
    this.#prepare = prepare;
  }

  /** Whether any update has an effect in the call that is being recorded. */
  get acts(): boolean {
    return this.#stack.callScale !== 0 && this.#terms.some(({ scale, adapter }) => scale * adapter.weight !== 0);
  }

  /**
   * Computes activation(W x + b + Σ scale · up (down x)) + residual.
   *
   * @param epilogue the epilogue of the whole expression
   * @param base computes W x + b with the epilogue passed to it; the sum of the updates is passed
   *   as its residual
   * @param update computes scale · up (down x) + residual
   */
  apply(
    epilogue: Epilogue,
    base: (epilogue: Epilogue) => Tensor,
    update: (term: { down: Down; up: Tensor; scale: number; residual: Tensor | undefined }) => Tensor,
  ): Tensor {
    const terms = this.#terms
      .map(({ down, up, scale, adapter }) => ({ down, up, scale: scale * adapter.weight * this.#stack.callScale }))
      .filter(({ scale }) => scale !== 0);
    if (terms.length === 0) return base(epilogue);
    return terms[0].up.gpu.scope(() => {
      const { activation, residual } = epilogue;
      // The activation applies after the updates and before the residual.
      const start = activation ? undefined : residual;
      const sum = terms.reduce((sum: Tensor | undefined, term) => update({ ...term, residual: sum }), start);
      const y = base({ residual: sum });
      if (!activation) return y;
      const activated = activate(y, activation);
      return residual ? add(activated, residual) : activated;
    });
  }

  /** Adds an adapter's update. The caller, {@linkcode AdapterStack}, has checked the shapes. */
  attach({ down, up, scale }: LowRankUpdate, adapter: Adapter): void {
    const prepared = this.#prepare(down.reshape([down.shape[0], ...this.shape.slice(1)]));
    this.#terms.push({ down: prepared, up: up.reshape([this.shape[0], down.shape[0]]), scale, adapter });
  }

  /** Removes and frees an adapter's update of this layer, if there is one. */
  detach(adapter: Adapter): void {
    for (const term of this.#terms) {
      if (term.adapter !== adapter) continue;
      term.down[Symbol.dispose]();
      term.up[Symbol.dispose]();
    }
    this.#terms = this.#terms.filter((term) => term.adapter !== adapter);
  }
}

/**
 * The adapters of one model, in the order of addition. Their updates are summed, each multiplied by
 * its weight.
 */
export class AdapterStack implements Disposable {
  /** The adaptable layers, by checkpoint key. */
  readonly layers: ReadonlyMap<string, LowRankUpdates>;
  readonly #layers = new Map<string, LowRankUpdates>();
  readonly #adapters = new Map<string, Adapter>();
  #callScale = 1;

  constructor() {
    this.layers = this.#layers;
  }

  /** Called after an adapter is added or removed, or its weight changes. */
  onChange: (() => void) | undefined;

  /** Cache key of the stack's state: each adapter's identity and weight, in order. */
  get key(): readonly unknown[] {
    return [...this.#adapters.values()].flatMap((adapter) => [adapter, adapter.weight]);
  }

  /** Registers a layer as adaptable. */
  register<Down extends Disposable>(
    path: string,
    shape: readonly number[],
    prepare: (down: Tensor) => Down,
  ): LowRankUpdates<Down> {
    const updates = new LowRankUpdates(this, shape, prepare);
    this.#layers.set(path, updates as unknown as LowRankUpdates);
    return updates;
  }

  /** Scale of all adapters in the call that is being recorded. */
  get callScale(): number {
    return this.#callScale;
  }

  /**
   * Records `body` with a common scale for all adapters. Recording is synchronous, so concurrent
   * calls cannot see each other's scale.
   */
  scaled<T>(scale: number, body: () => T): T {
    const outer = this.#callScale;
    this.#callScale = scale;
    try {
      return body();
    } finally {
      this.#callScale = outer;
    }
  }

  /** The adapters' weights by name, in order of addition. */
  get weights(): ReadonlyMap<string, number> {
    return new Map([...this.#adapters.values()].map(({ name, weight }) => [name, weight]));
  }

  /**
   * Adds an adapter. The stack keeps its own references; the caller still disposes of its tensors.
   *
   * @param updates by layer key
   * @throws {RangeError} if the name is in use
   * @throws {ShapeError} if an update does not fit its layer; nothing is added then
   */
  add(name: string, weight: number, updates: ReadonlyMap<string, LowRankUpdate>): void {
    if (this.#adapters.has(name)) {
      throw new RangeError(`Cannot add the adapter ${JSON.stringify(name)} as there is one of that name`);
    }
    for (const [path, { down, up }] of updates) {
      const layer = this.#layers.get(path);
      const why = layer ? misfit(layer.shape, down.shape, up.shape) : "the model has no such layer";
      if (why !== undefined) throw new ShapeError(`Cannot adapt ${path} as ${why}`, [down.shape, up.shape]);
    }
    const adapter: Adapter = { name, weight };
    this.#adapters.set(name, adapter);
    for (const [path, update] of updates) this.#layers.get(path)!.attach(update, adapter);
    this.onChange?.();
  }

  /** Changes an adapter's weight. Does nothing if the model has no such adapter. */
  reweight(name: string, weight: number): void {
    const adapter = this.#adapters.get(name);
    if (!adapter || adapter.weight === weight) return;
    adapter.weight = weight;
    this.onChange?.();
  }

  /** Removes and frees an adapter. Does nothing if the model has no such adapter. */
  remove(name: string): void {
    const adapter = this.#adapters.get(name);
    if (!adapter) return;
    this.#adapters.delete(name);
    for (const layer of this.#layers.values()) layer.detach(adapter);
    this.onChange?.();
  }

  /** Removes and frees all adapters. */
  [Symbol.dispose](): void {
    for (const name of [...this.#adapters.keys()]) this.remove(name);
  }
}

/**
 * Returns the reason why an update does not fit a layer with a weight [out, in, …], or `undefined`
 * if it fits. Trailing axes of length 1 are ignored: a 1×1 convolution equals a linear layer.
 */
export function misfit(
  layer: readonly number[],
  down: readonly number[],
  up: readonly number[],
): string | undefined {
  const [rank] = down;
  const [out, ...inside] = layer;
  if (down.length < 2 || up.length < 2) return `its factors must be matrices: [${down.join(", ")}], [${up.join(", ")}]`;
  if (up[1] !== rank) return `the ranks of its factors must agree: down has ${rank}, up has ${up[1]}`;
  const fits = (actual: readonly number[], wanted: readonly number[]) =>
    trimmed(actual).join() === trimmed(wanted).join();
  if (!fits(down, [rank, ...inside])) return `down must be [${[rank, ...inside].join(", ")}]: [${down.join(", ")}]`;
  if (!fits(up, [out, rank])) return `up must be [${out}, ${rank}]: [${up.join(", ")}]`;
  return undefined;
}

/** Returns the shape without trailing axes of length 1. */
export function trimmed(shape: readonly number[]): readonly number[] {
  return shape.slice(0, shape.findLastIndex((length) => length !== 1) + 1);
}
