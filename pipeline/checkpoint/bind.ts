/**
 * Binds a checkpoint's tensors to modules by their keys: a module's constructor requests
 * `w.at("to_out.0").get("weight", [out, in])`. Constructors only record requests. The data is read
 * in one pass over the file, after all requests have been checked against the header.
 *
 * @module
 */

import type { Gpu } from "../../engine/gpu.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { CheckpointError } from "../errors.ts";
import { AdapterStack } from "../adapters/adapter_stack.ts";
import { type AdaptableLayer, type LayerUpdates, trimmed } from "../adapters/layer_updates.ts";
import { fillWeights, floatTypes, storedAs, type WeightRequest } from "./fill_weights.ts";
import { quantizedReason } from "./quantized.ts";
import type { SafetensorsDtype } from "./safetensors/format.ts";
import type { Weights } from "./safetensors/weights.ts";
import { SurplusKeys } from "./surplus.ts";

/** All device tensors of one model. Disposing of it frees them. */
export class ModelWeights implements Disposable {
  readonly #tensors = new Set<Disposable>();
  /** The file or folder that the tensors were read from. */
  readonly source: string;
  /** Number of elements of all weights that the model reads. */
  parameters = 0;
  /**
   * The model's LoRAs.
   *
   * @internal
   */
  readonly adapters: AdapterStack = new AdapterStack();
  #isDisposed = false;

  /**
   * An owner without tensors.
   *
   * @param source The file or folder that the tensors are read from.
   */
  constructor(source: string) {
    this.source = source;
  }

  /** Transfers ownership of a tensor, or of its repacked form, to the model. */
  add<T extends Disposable>(tensor: T): T {
    this.#tensors.add(tensor);
    return tensor;
  }

  /** Whether the tensors have been freed. */
  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** Frees all tensors, LoRAs included. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.adapters[Symbol.dispose]();
    for (const tensor of this.#tensors) tensor[Symbol.dispose]();
    this.#tensors.clear();
  }
}

/** A prefix in a checkpoint's keys, through which modules request weights. */
export class WeightScope {
  readonly #binder: Binder;
  readonly #prefix: string;

  constructor(binder: Binder, prefix: string) {
    this.#binder = binder;
    this.#prefix = prefix;
  }

  /** The prefix, without a trailing dot. */
  get path(): string {
    return this.#prefix;
  }

  /** The scope below: `w.at("down_blocks", 0, "resnets", 1)` or `w.at("to_out.0")`. */
  at(...path: (string | number)[]): WeightScope {
    return new WeightScope(this.#binder, [this.#prefix, ...path].filter((part) => part !== "").join("."));
  }

  /** Whether the checkpoint has a key in this scope, for names that changed between versions. */
  has(key: string): boolean {
    return this.#binder.weights.tensors.has(this.#key(key));
  }

  /**
   * Requests a weight of `shape`. Trailing axes of length 1 are ignored: a 1×1 convolution equals a
   * linear layer. The tensor is filled after all requests have been checked.
   */
  get(key: string, shape: readonly number[]): Tensor {
    const { gpu, owner } = this.#binder;
    const info = this.#binder.expect(this.#key(key), shape);
    const tensor = owner.add(Tensor.empty(gpu, shape, info ? storedAs(info.dtype) : "f32", { exact: true }));
    if (info) this.#binder.request({ key: this.#key(key), dtype: info.dtype, open: () => tensor, filled: () => {} });
    return tensor;
  }

  /**
   * Requests a weight that is stored in another form. `repack` receives the filled tensor; the
   * model owns its result, and the tensor is freed.
   */
  repacked(key: string, shape: readonly number[], repack: (tensor: Tensor) => Disposable): void {
    const { gpu, owner } = this.#binder;
    const info = this.#binder.expect(this.#key(key), shape);
    if (!info) return;
    this.#binder.request({
      key: this.#key(key),
      dtype: info.dtype,
      open: () => Tensor.empty(gpu, shape, storedAs(info.dtype), { exact: true }),
      filled: (tensor) => {
        owner.add(repack(tensor));
        tensor[Symbol.dispose]();
      },
    });
  }

  /** Lets adapters update the layer of this scope. */
  adaptable<Packed extends Disposable>(layer: AdaptableLayer<Packed>): LayerUpdates<Packed> {
    return this.#binder.owner.adapters.register(this.#prefix, layer);
  }

  #key(key: string): string {
    return this.#prefix === "" ? key : `${this.#prefix}.${key}`;
  }
}

/** Building stops after so many faults: a configuration may claim billions of layers. */
const maxFaults = 10_000;

class Binder {
  readonly missing: string[] = [];
  readonly misshapen: string[] = [];
  readonly requests: WeightRequest[] = [];
  readonly used: Set<string> = new Set();

  constructor(readonly gpu: Gpu, readonly weights: Weights, readonly owner: ModelWeights) {}

  expect(key: string, shape: readonly number[]): { dtype: SafetensorsDtype } | undefined {
    if (this.missing.length + this.misshapen.length >= maxFaults) this.check();
    const info = this.weights.tensors.get(key);
    if (!info) {
      this.missing.push(`${key} [${shape.join(", ")}]`);
      return undefined;
    }
    this.used.add(key);
    if (trimmed(info.shape).join() !== trimmed(shape).join() || elements(info.shape) !== elements(shape)) {
      this.misshapen.push(`${key}: [${info.shape.join(", ")}] in the file, [${shape.join(", ")}] by the configuration`);
      return undefined;
    }
    if (!(info.dtype in floatTypes)) {
      this.misshapen.push(`${key}: type ${info.dtype} is not one of ${Object.keys(floatTypes).join(", ")}`);
      return undefined;
    }
    return info;
  }

  request(request: WeightRequest): void {
    this.requests.push(request);
  }

  /**
   * Checks that every requested tensor is there.
   *
   * @returns the keys that no module requested
   * @throws {CheckpointError} for quantized weights, or with a list of every missing and misshapen
   *   key, and of those that are unknown: they may be the missing ones under other names
   */
  check(): string[] {
    const { weights } = this;
    const quantized = quantizedReason(weights);
    if (quantized !== undefined) {
      throw new CheckpointError(`Cannot load ${weights.name} as ${quantized}`, { source: weights.name });
    }
    const unused = [...weights.tensors.keys()].filter((key) => !this.used.has(key));
    if (this.missing.length === 0 && this.misshapen.length === 0) return unused;
    const complaints = [
      complaint("missing", this.missing),
      complaint("of another shape or type", this.misshapen),
      complaint("unknown to this model", unused),
    ].filter((text) => text !== "");
    throw new CheckpointError(`Cannot bind ${weights.name} to its configuration:\n${complaints.join("\n")}`, {
      source: weights.name,
    });
  }
}

/** Options of {@linkcode bindWeights}. */
export interface BindOptions {
  /** Receives the keys that no module requests. Default: one warning about them. */
  readonly surplus?: SurplusKeys;
  /** Called as bytes arrive on the device. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Builds a model from a checkpoint. `build` constructs the modules, which request their weights
 * from the scope that it receives. The file is then read once, in ranges, into GPU buffers.
 *
 * @throws {CheckpointError} that lists every missing and misshapen key at once
 */
export async function bindWeights<T>(
  gpu: Gpu,
  weights: Weights,
  build: (root: WeightScope) => T,
  options: BindOptions = {},
): Promise<{ model: T; owner: ModelWeights }> {
  const unused = checkBinding(weights, build); // before anything is allocated on the device
  const owner = new ModelWeights(weights.name);
  try {
    const binder = new Binder(gpu, weights, owner);
    const model = build(new WeightScope(binder, ""));
    owner.parameters = binder.requests.reduce((sum, { key }) => sum + elements(weights.info(key).shape), 0);
    const surplus = options.surplus ?? new SurplusKeys();
    surplus.add(unused);
    if (options.surplus === undefined) surplus.warn(weights.name);
    await fillWeights(gpu, weights, binder.requests, options);
    return { model, owner };
  } catch (error) {
    owner[Symbol.dispose]();
    throw error;
  }
}

/**
 * Checks a checkpoint against a model as {@linkcode bindWeights} does, by its header alone: without
 * reading tensor data and without a device.
 *
 * @returns the keys that no module requests
 * @throws {CheckpointError} as {@linkcode bindWeights}
 */
export function checkBinding(weights: Weights, build: (root: WeightScope) => unknown): string[] {
  using owner = new ModelWeights(weights.name);
  const binder = new Binder(nowhere, weights, owner);
  build(new WeightScope(binder, ""));
  return binder.check();
}

/** The layers that adapters can change in a model, by its configuration alone. */
export function adaptableLayers(build: (root: WeightScope) => unknown): AdapterStack {
  const owner = new ModelWeights("no weights");
  const none = { name: owner.source, tensors: new Map(), metadata: {} } as unknown as Weights;
  build(new WeightScope(new Binder(nowhere, none, owner), ""));
  return owner.adapters;
}

/** Stands in for a device where tensors are only described. */
const nowhere = {
  context: { allocate: () => ({ buffer: {}, owners: 0 }), free() {}, scopes: { adopt() {}, abandon() {} } },
} as unknown as Gpu;

function complaint(kind: string, keys: readonly string[]): string {
  if (keys.length === 0) return "";
  const shown = keys.slice(0, 12).map((key) => `  ${key}`).join("\n");
  return `${keys.length} ${kind}:\n${shown}${keys.length > 12 ? `\n  … and ${keys.length - 12} more` : ""}`;
}
