/**
 * Low-rank updates of layers at run time (LoRA, 2106.09685): y = W x + Σ scale · up (down x).
 * Weights stay as they are, so that an update that is taken away leaves no trace, and its scale can
 * differ from call to call.
 */

import { ShapeError } from "../../engine/errors.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { activate } from "../../kernels/shape/activate.ts";
import type { Activation } from "../../kernels/wgsl/activation.ts";
import { add } from "../../kernels/shape/linear_combination.ts";

/** An update of one layer as files hold it. */
export interface LowRankUpdate {
  /** [rank, in], or [rank, in, k, k] for a convolution. */
  readonly down: Tensor;
  /** [out, rank] */
  readonly up: Tensor;
  /** Factor of the product: α / rank. */
  readonly scale: number;
}

/** What a layer does after its product. */
interface Epilogue {
  readonly activation?: Activation;
  readonly residual?: Tensor;
}

/** A part of an adapter, as its layer wants it. */
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
 * The updates of one layer. `Down` is the form in which the layer takes the first factor: a matrix,
 * or a packed convolution.
 */
export class LowRankUpdates<Down extends Disposable = Disposable> {
  readonly #stack: AdapterStack;
  readonly #prepare: (down: Tensor) => Down;
  #terms: Term<Down>[] = [];

  /**
   * @param shape of the layer's weight: [out, in], or [out, in, k, k]
   * @param prepare makes of a first factor [rank, in, …] what the layer wants; the tensor is its to
   *   keep or to dispose of
   */
  constructor(stack: AdapterStack, readonly shape: readonly number[], prepare: (down: Tensor) => Down) {
    this.#stack = stack;
    this.#prepare = prepare;
  }

  /** Whether there are updates that act in the call that is being recorded. */
  get acts(): boolean {
    return this.#stack.callScale !== 0 && this.#terms.some(({ scale, adapter }) => scale * adapter.weight !== 0);
  }

  /**
   * activation(W x + b + Σ scale · up (down x)) + residual.
   *
   * @param epilogue what the call asks for
   * @param base the layer's own product, with the epilogue that it is given: the sum of the updates
   *   comes as its residual
   * @param update scale · up (down x), plus the residual
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
      // An activation comes before the residual and after the updates.
      const start = activation ? undefined : residual;
      const sum = terms.reduce((sum: Tensor | undefined, term) => update({ ...term, residual: sum }), start);
      const y = base({ residual: sum });
      if (!activation) return y;
      const activated = activate(y, activation);
      return residual ? add(activated, residual) : activated;
    });
  }

  /** Takes a part of an adapter; called by {@linkcode AdapterStack}, who has checked the shapes. */
  attach({ down, up, scale }: LowRankUpdate, adapter: Adapter): void {
    const prepared = this.#prepare(down.reshape([down.shape[0], ...this.shape.slice(1)]));
    this.#terms.push({ down: prepared, up: up.reshape([this.shape[0], down.shape[0]]), scale, adapter });
  }

  /** Frees an adapter's part, if it has one here. */
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
 * The adapters of one model, in the order in which they were added. All of them act at once, each
 * with its weight.
 */
export class AdapterStack implements Disposable {
  /** The layers that can be adapted, by their key in the checkpoint. */
  readonly layers: ReadonlyMap<string, LowRankUpdates>;
  readonly #layers = new Map<string, LowRankUpdates>();
  readonly #adapters = new Map<string, Adapter>();
  #callScale = 1;

  constructor() {
    this.layers = this.#layers;
  }

  /** Called after an adapter was added, removed or given another weight. */
  onChange: (() => void) | undefined;

  /** What results depend on: each adapter's identity and weight, in order. */
  get key(): readonly unknown[] {
    return [...this.#adapters.values()].flatMap((adapter) => [adapter, adapter.weight]);
  }

  /** Makes a layer adaptable. */
  register<Down extends Disposable>(
    path: string,
    shape: readonly number[],
    prepare: (down: Tensor) => Down,
  ): LowRankUpdates<Down> {
    const updates = new LowRankUpdates(this, shape, prepare);
    this.#layers.set(path, updates as unknown as LowRankUpdates);
    return updates;
  }

  /** The factor of all adapters in the call that is being recorded. */
  get callScale(): number {
    return this.#callScale;
  }

  /**
   * Records `body` with a factor on all adapters. Recording never waits, so calls that are drawn at
   * the same time cannot mix.
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

  /** Each adapter's weight by its name, in order. */
  get weights(): ReadonlyMap<string, number> {
    return new Map([...this.#adapters.values()].map(({ name, weight }) => [name, weight]));
  }

  /**
   * Adds an adapter. The tensors are shared with it: the caller disposes of its own.
   *
   * @param updates by the layer's key
   * @throws {RangeError} if there is an adapter of the name
   * @throws {ShapeError} if an update does not fit its layer; then none is added
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

  /** Changes an adapter's weight; does nothing where the model has no part of it. */
  reweight(name: string, weight: number): void {
    const adapter = this.#adapters.get(name);
    if (!adapter || adapter.weight === weight) return;
    adapter.weight = weight;
    this.onChange?.();
  }

  /** Takes an adapter away and frees it; does nothing where the model has no part of it. */
  remove(name: string): void {
    const adapter = this.#adapters.get(name);
    if (!adapter) return;
    this.#adapters.delete(name);
    for (const layer of this.#layers.values()) layer.detach(adapter);
    this.onChange?.();
  }

  [Symbol.dispose](): void {
    for (const name of [...this.#adapters.keys()]) this.remove(name);
  }
}

/**
 * Why an update does not fit a layer with a weight [out, in, …], in words; `undefined` if it does.
 * Axes of length 1 at the end do not count, since 1×1 convolutions and linear layers are one thing.
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

/** A shape without its trailing axes of length 1: a 1×1 convolution equals a linear layer. */
export function trimmed(shape: readonly number[]): readonly number[] {
  return shape.slice(0, shape.findLastIndex((length) => length !== 1) + 1);
}
