import type { DeviceContext } from "../context.ts";
import type { CompiledKernel } from "../kernel/pipeline_cache.ts";
import { type ParamSlots, slotBytes } from "./sink.ts";

/** The bind groups of one device, cached by layout and buffers. */
export class BindGroups {
  readonly #context: DeviceContext;
  readonly #groups = new Map<string, GPUBindGroup>();
  readonly #bufferIds = new WeakMap<GPUBuffer, number>();
  #nextBufferId = 0;

  constructor(context: DeviceContext) {
    this.#context = context;
  }

  /** The bind group of a kernel's buffers. */
  get(kernel: CompiledKernel, entries: readonly GPUBufferBinding[]): GPUBindGroup {
    let key = `${kernel.layout.id}`;
    for (const { buffer, offset, size } of entries) key += `|${this.#id(buffer)},${offset},${size}`;
    let group = this.#groups.get(key);
    if (!group) {
      group = this.#context.device.createBindGroup({
        layout: kernel.layout.layout,
        entries: entries.map((resource, binding) => ({ binding, resource })),
      });
      this.#groups.set(key, group);
    }
    return group;
  }

  /** The bind group and the offsets of a uniform buffer of parameter slots. Not cached. */
  paramSlots(buffer: GPUBuffer): ParamSlots {
    const group = this.#context.device.createBindGroup({
      layout: this.#context.paramsLayout,
      entries: [{ binding: 0, resource: { buffer, size: slotBytes } }],
    });
    return { group, offsets: Uint32Array.from({ length: buffer.size / slotBytes }, (_, slot) => slot * slotBytes) };
  }

  /**
   * Drops all bind groups. Required before buffers are destroyed: a bind group keeps their memory.
   */
  clear(): void {
    this.#groups.clear();
  }

  #id(buffer: GPUBuffer): number {
    let id = this.#bufferIds.get(buffer);
    if (id === undefined) this.#bufferIds.set(buffer, id = this.#nextBufferId++);
    return id;
  }
}
