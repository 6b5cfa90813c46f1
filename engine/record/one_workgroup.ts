import type { DeviceContext } from "../context.ts";
import type { RehearsedRun } from "./rehearse_sink.ts";
import type { DispatchRecord } from "./sink.ts";

/** Bytes of each buffer. Accesses beyond it are harmless: WebGPU bounds them. */
const bufferBytes = 65536;

/**
 * Rehearsed dispatches, reduced to one workgroup each over small buffers: the driver compiles the
 * kernel, and next to nothing is computed.
 */
export class OneWorkgroupRuns implements Disposable {
  readonly #context: DeviceContext;
  /** A buffer per binding: a kernel must not write a buffer that it reads. */
  readonly #buffers: GPUBuffer[] = [];

  constructor(context: DeviceContext) {
    this.#context = context;
  }

  /** One workgroup of a rehearsed dispatch, to be given to a sink. */
  record({ kernel, params }: Pick<RehearsedRun, "kernel" | "params">, name = kernel.name): DispatchRecord {
    const entries = kernel.accesses.map((_, binding) => ({
      buffer: this.#buffers[binding] ??= this.#createBuffer(),
      offset: 0,
      size: bufferBytes,
    }));
    const pack = (view: DataView) => new Uint8Array(view.buffer, view.byteOffset).set(params);
    return { kernel, entries, pack, grid: [1, 1, 1], name, cost: undefined };
  }

  [Symbol.dispose](): void {
    this.#context.invalidateBindGroups();
    for (const buffer of this.#buffers) buffer.destroy();
  }

  #createBuffer(): GPUBuffer {
    return this.#context.device.createBuffer({ size: bufferBytes, usage: GPUBufferUsage.STORAGE });
  }
}
