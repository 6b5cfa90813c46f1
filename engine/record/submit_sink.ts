import type { DeviceContext } from "../context.ts";
import type { BindGroups } from "./bind_groups.ts";
import type { Profiler } from "./profiler.ts";
import {
  type CopyRecord,
  type DispatchRecord,
  type ParamSlots,
  type ProgramCommand,
  type ResolvedDispatch,
  type Sink,
  slotBytes,
} from "./sink.ts";

/**
 * Dispatches of one submission, at most. A full sink submits, so that the device starts while the
 * host continues to record.
 */
export const maxDispatches = 512;

/**
 * Encodes for the device. One command encoder per submission; one compute pass for consecutive
 * dispatches, since each pass has a cost; one uniform buffer, written once per submission, that
 * holds the parameters of each dispatch in a slot. With a profiler, each dispatch gets a pass of
 * its own.
 */
export class SubmitSink implements Sink, Disposable {
  readonly #context: DeviceContext;
  readonly #groups: BindGroups;
  readonly #profiler: Profiler | undefined;
  readonly #params: GPUBuffer;
  readonly #paramSlots: ParamSlots;
  readonly #staging = new ArrayBuffer(maxDispatches * slotBytes);
  readonly #views = Array.from(
    { length: maxDispatches },
    (_, slot) => new DataView(this.#staging, slot * slotBytes, slotBytes),
  );
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #pipeline: GPUComputePipeline | undefined;
  #usedSlots = 0;
  /** At least `#usedSlots`: replayed dispatches use the parameters of their program. */
  #dispatches = 0;

  constructor(context: DeviceContext, groups: BindGroups, profiler?: Profiler) {
    this.#context = context;
    this.#groups = groups;
    this.#profiler = profiler;
    this.#params = context.device.createBuffer({
      size: maxDispatches * slotBytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.#paramSlots = groups.paramSlots(this.#params);
  }

  get needsCost(): boolean {
    return this.#profiler !== undefined;
  }

  dispatch(record: DispatchRecord): void {
    this.#reserve();
    const slot = this.#usedSlots++;
    record.pack(this.#views[slot]);
    this.#encode({ record, group: this.#groups.get(record.kernel, record.entries), slot }, this.#paramSlots);
  }

  replay(commands: readonly ProgramCommand[], params: ParamSlots): void {
    for (const command of commands) {
      if ("source" in command) {
        this.copy(command);
        continue;
      }
      this.#reserve();
      this.#encode(command, params);
    }
  }

  copy({ source, sourceOffset, target, targetOffset, bytes }: CopyRecord): void {
    this.#endPass();
    const encoder = this.#encoder ??= this.#context.device.createCommandEncoder();
    encoder.copyBufferToBuffer(source, sourceOffset, target, targetOffset, bytes);
  }

  submit(): void {
    const encoder = this.#encoder;
    if (!encoder) return;
    this.#endPass();
    this.#profiler?.resolve(encoder);
    const { queue } = this.#context.device;
    const usedSlots = this.#usedSlots;
    this.#encoder = undefined;
    this.#usedSlots = this.#dispatches = 0;
    this.#context.guarded("run the recorded kernels", () => {
      if (usedSlots > 0) queue.writeBuffer(this.#params, 0, this.#staging, 0, usedSlots * slotBytes);
      queue.submit([encoder.finish()]);
    });
    this.#profiler?.collect();
  }

  /** Frees the uniform buffer. */
  [Symbol.dispose](): void {
    this.#params.destroy();
  }

  #reserve(): void {
    if (this.#dispatches === maxDispatches) this.submit();
    this.#dispatches++;
  }

  #encode(
    { record: { kernel: { pipeline }, grid, name, cost }, group, slot }: ResolvedDispatch,
    params: ParamSlots,
  ): void {
    const encoder = this.#encoder ??= this.#context.device.createCommandEncoder();
    if (this.#profiler) {
      this.#endPass();
      this.#pass = encoder.beginComputePass({ timestampWrites: this.#profiler.start(name, cost) });
    }
    const pass = this.#pass ??= encoder.beginComputePass();
    if (this.#pipeline !== pipeline) {
      pass.setPipeline(pipeline);
      this.#pipeline = pipeline;
    }
    pass.setBindGroup(0, group);
    pass.setBindGroup(1, params.group, params.offsets, slot, 1);
    pass.dispatchWorkgroups(...grid);
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#pipeline = undefined;
  }
}
