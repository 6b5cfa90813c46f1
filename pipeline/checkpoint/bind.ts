/**
 * Binds a checkpoint's tensors to modules by their keys: a module's constructor requests
 * `w.at("to_out.0").get("weight", [out, in])`. Constructors only record requests. The data is read
 * in one pass over the file, after all requests have been checked against the header.
 *
 * @module
 */

import type { DType } from "../../engine/dtype.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { Uploader } from "../../engine/memory/uploader.ts";
import { CheckpointError } from "../errors.ts";
import { elementsOf, toFloat32 } from "./safetensors/decode.ts";
import { findNonFinite } from "./safetensors/finite.ts";
import { AdapterStack } from "../adapters/adapter_stack.ts";
import { type AdaptableLayer, type LayerUpdates, trimmed } from "../adapters/layer_updates.ts";
import { quantizedReason } from "./quantized.ts";
import type { SafetensorsDtype } from "./safetensors/format.ts";
import type { Weights } from "./safetensors/weights.ts";
import { SurplusKeys } from "./surplus.ts";

/**
 * Bytes read at a time. This bounds the host memory that loading takes, uploads in flight aside.
 */
const chunkBytes = 1 << 20;

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

/** A tensor that a module requests. */
interface Request {
  readonly key: string;
  readonly dtype: SafetensorsDtype;
  /**
   * The tensor to fill. Plain weights are allocated in advance, repacked ones when their data
   * arrives.
   */
  readonly open: () => Tensor;
  readonly filled: (tensor: Tensor) => void;
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
  readonly requests: Request[] = [];
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

  request(request: Request): void {
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
    await fill(gpu, weights, binder.requests, options);
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

async function fill(
  gpu: Gpu,
  weights: Weights,
  requests: readonly Request[],
  { onProgress }: BindOptions,
): Promise<void> {
  // In file order, so that reads are sequential.
  const ordered = requests.map((request) => ({ ...request, ...weights.info(request.key) })).sort((a, b) =>
    a.offset - b.offset
  );
  if (gpu.context.isNull) return ordered.forEach(({ open, filled }) => filled(open())); // holds no elements
  const totalBytes = ordered.reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  using uploader = new Uploader(gpu);
  const room = new Uint8Array(chunkBytes);
  const unfinished = new Set<Tensor>();
  try {
    for (const { key, dtype, bytes, open, filled } of ordered) {
      const tensor = open();
      unfinished.add(tensor);
      const { widening } = floatTypes[dtype]!;
      for (let from = 0; from < bytes; from += chunkBytes) {
        const chunk = await weights.readRange(key, from, Math.min(from + chunkBytes, bytes), room);
        const stored = toStored(chunk, dtype);
        checkFinite(weights, key, stored, { type: storedAs(dtype), firstByte: from * widening });
        await uploader.write(tensor, stored, from * widening);
        doneBytes += chunk.byteLength;
        onProgress?.(doneBytes, totalBytes);
      }
      uploader.afterwards(() => {
        filled(tensor);
        unfinished.delete(tensor);
      });
    }
    await uploader.finish();
  } catch (error) {
    for (const tensor of unfinished) tensor[Symbol.dispose]();
    throw error;
  }
}

/** @throws {CheckpointError} if a piece of a tensor, as it is stored, holds NaN or an infinity */
function checkFinite(
  weights: Weights,
  key: string,
  bytes: Uint8Array<ArrayBuffer>,
  { type, firstByte }: { type: DType; firstByte: number },
): void {
  const float = type === "f16" ? "f16" : "f32";
  const at = findNonFinite(bytes, float);
  if (at < 0) return;
  const element = firstByte / (float === "f16" ? 2 : 4) + at;
  throw new CheckpointError(
    `Cannot load ${weights.name} as its tensor ${key} holds NaN or an infinity (element ${element}): ` +
      "the file is damaged, or its training or merging diverged. Get another copy or version of the model",
    { source: weights.name },
  );
}

/**
 * How the file's types are stored on the device: f16 as it is, float8 as f16, bfloat16 and float64
 * as f32. All but float64 are exact. `widening` is stored bytes per byte of the file.
 */
const floatTypes: Partial<Record<SafetensorsDtype, { dtype: DType; widening: number }>> = {
  F32: { dtype: "f32", widening: 1 },
  F16: { dtype: "f16", widening: 1 },
  BF16: { dtype: "f32", widening: 2 },
  F64: { dtype: "f32", widening: 0.5 },
  F8_E4M3: { dtype: "f16", widening: 2 },
  F8_E5M2: { dtype: "f16", widening: 2 },
};

/** Bytes on the device per byte of the file. */
export function wideningOf(dtype: SafetensorsDtype): number {
  return floatTypes[dtype]?.widening ?? 1;
}

function storedAs(dtype: SafetensorsDtype): DType {
  return floatTypes[dtype]!.dtype;
}

function toStored(chunk: Uint8Array<ArrayBuffer>, dtype: SafetensorsDtype): Uint8Array<ArrayBuffer> {
  if (dtype === "F32" || dtype === "F16") return chunk;
  // The chunk is a view of a larger buffer.
  const elements = elementsOf(chunk.slice().buffer, dtype)!;
  return new Uint8Array((elements instanceof Float16Array ? elements : toFloat32(elements)).buffer);
}

function complaint(kind: string, keys: readonly string[]): string {
  if (keys.length === 0) return "";
  const shown = keys.slice(0, 12).map((key) => `  ${key}`).join("\n");
  return `${keys.length} ${kind}:\n${shown}${keys.length > 12 ? `\n  … and ${keys.length - 12} more` : ""}`;
}
