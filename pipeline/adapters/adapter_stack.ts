/** The adapters of one model, and the layers that they can update. */

import { ShapeError } from "../../engine/errors.ts";
import { type AdaptableLayer, type Adapter, type LayerUpdate, LayerUpdates } from "./layer_updates.ts";

/** A model's adapters and their weights at one moment; see {@linkcode AdapterStack.snapshot}. */
export interface AdapterSnapshot extends Disposable {
  /** Cache key of the state, as {@linkcode AdapterStack.key}. */
  readonly key: readonly unknown[];
  /** Adds an adapter of the stack, with a weight of its own. */
  include(name: string, weight: number): void;
  /** Records `body` with these adapters, whatever the stack holds by then. */
  record<T>(body: () => T): T;
}

/**
 * The adapters of one model, in the order of addition. Their updates are summed, each multiplied by
 * its weight.
 */
export class AdapterStack implements Disposable {
  /** The adaptable layers, by checkpoint key. */
  readonly layers: ReadonlyMap<string, LayerUpdates>;
  readonly #layers = new Map<string, LayerUpdates>();
  readonly #adapters = new Map<string, Adapter>();
  #callScale = 1;
  /** The weights that the call being recorded uses in place of the present ones. */
  #recorded: ReadonlyMap<Adapter, number> | undefined;

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
  register<Packed extends Disposable>(path: string, layer: AdaptableLayer<Packed>): LayerUpdates<Packed> {
    const updates = new LayerUpdates(layer, (adapter) => this.#callScale * this.#weightOf(adapter));
    this.#layers.set(path, updates as unknown as LayerUpdates);
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

  /**
   * Holds the adapters and weights as they are now. Adapters that are removed meanwhile are freed
   * with the last snapshot that holds them.
   */
  snapshot(): AdapterSnapshot {
    const weights = new Map([...this.#adapters.values()].map((adapter) => [adapter, adapter.weight] as const));
    const key = [...this.key];
    for (const adapter of weights.keys()) adapter.holders++;
    let released = false;
    return {
      key,
      include: (name, weight) => {
        const adapter = this.#adapters.get(name);
        if (adapter === undefined || weights.has(adapter)) {
          throw new RangeError(
            `Cannot include the adapter ${JSON.stringify(name)} as it is not one of the stack's others`,
          );
        }
        adapter.holders++;
        weights.set(adapter, weight);
        key.push(adapter, weight);
      },
      record: (body) => {
        const outer = this.#recorded;
        this.#recorded = weights;
        try {
          return body();
        } finally {
          this.#recorded = outer;
        }
      },
      [Symbol.dispose]: () => {
        if (released) return;
        released = true;
        for (const adapter of weights.keys()) {
          adapter.holders--;
          if (this.#adapters.get(adapter.name) !== adapter) this.#free(adapter);
        }
      },
    };
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
  add(name: string, weight: number, updates: ReadonlyMap<string, LayerUpdate>): void {
    if (this.#adapters.has(name)) {
      throw new RangeError(`Cannot add the adapter ${JSON.stringify(name)} as there is one of that name`);
    }
    for (const [path, update] of updates) {
      const layer = this.#layers.get(path);
      if (layer === undefined) throw new ShapeError(`Cannot adapt ${path} as the model has no such layer`);
      layer.check(path, update);
    }
    const adapter: Adapter = { name, weight, holders: 0 };
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
    adapter.weight = 0;
    this.#free(adapter);
    this.onChange?.();
  }

  /** Removes and frees all adapters. */
  [Symbol.dispose](): void {
    for (const name of [...this.#adapters.keys()]) this.remove(name);
  }

  /** Weight of an adapter in the call that is being recorded. */
  #weightOf(adapter: Adapter): number {
    return this.#recorded === undefined ? adapter.weight : this.#recorded.get(adapter) ?? 0;
  }

  /** Frees the tensors of a removed adapter, unless a snapshot holds them. */
  #free(adapter: Adapter): void {
    if (adapter.holders > 0) return;
    for (const layer of this.#layers.values()) layer.detach(adapter);
  }
}
