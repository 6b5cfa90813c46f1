import { GpuError } from "../errors.ts";
import type { CompiledKernel, Cost, Grid } from "../kernel/kernel.ts";
import type { Gpu } from "../gpu.ts";
import type { Capture } from "./program.ts";

/** One row of a profile: all runs of one kernel. */
export interface KernelProfile {
  readonly kernel: string;
  readonly runs: number;
  readonly ms: number;
  readonly flops: number;
  readonly bytes: number;
}

/** A kernel run as {@linkcode Recorder.rehearse} noted it. */
export interface RehearsedRun {
  readonly kernel: CompiledKernel;
  /** Bytes that each binding covers. */
  readonly bindingBytes: readonly number[];
  /** The uniform parameters, packed. */
  readonly params: Uint8Array<ArrayBuffer>;
  readonly grid: Grid;
}

/**
 * Uniform slots of one submission. Full means submit: the GPU then starts while the host records
 * on.
 */
const slots = 512;
/** A slot's bytes: the largest alignment that WebGPU lets a device demand. */
export const slotBytes = 256;

/** A kernel's run as it is asked for. */
export interface KernelRun {
  readonly kernel: CompiledKernel;
  readonly entries: readonly GPUBufferBinding[];
  /** The uniform parameters, packed. */
  readonly params: Uint8Array<ArrayBuffer>;
  readonly grid: Grid;
}

/** A kernel's run with everything at hand that the device wants to be told. */
interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  /** Which of the parameters' slots is its own. */
  readonly slot: number;
  readonly grid: Grid;
  readonly name: string;
  readonly cost: Cost | undefined;
}

/** A buffer of parameters, in slots, as dispatches bind it. */
export interface ParamSlots {
  readonly group: GPUBindGroup;
  /**
   * Where each slot begins. In this form, since Deno takes 0.7 µs to read an offset from a plain
   * array and 0.2 from this.
   */
  readonly offsets: Uint32Array;
}

/** A copy between buffers. */
export interface CopyCommand {
  readonly source: GPUBuffer;
  readonly sourceOffset: number;
  readonly target: GPUBuffer;
  readonly targetOffset: number;
  readonly bytes: number;
}

/** A step of a program: a kernel's run, with what it was asked for as, or a copy. */
export type ProgramCommand = (Dispatch & { readonly run: KernelRun }) | CopyCommand;

/**
 * Dispatches waiting to be submitted: one command encoder, one compute pass for as many dispatches
 * as come in a row (a pass costs 40–115 µs on GPUs), one uniform buffer whose slots are the
 * dispatches' parameters, written just before the submission.
 */
export class Recorder {
  readonly #gpu: Gpu;
  readonly #paramsLayout: GPUBindGroupLayout;
  readonly #params: GPUBuffer;
  readonly #paramSlots: ParamSlots;
  readonly #staging = new ArrayBuffer(slots * slotBytes);
  readonly #views = Array.from(
    { length: slots },
    (_, slot) => new DataView(this.#staging, slot * slotBytes, slotBytes),
  );
  readonly #groups = new Map<string, GPUBindGroup>();
  readonly #bufferIds = new WeakMap<GPUBuffer, number>();
  #nextBufferId = 0;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #pipeline: GPUComputePipeline | undefined;
  /**
   * Slots that wait to be written, and dispatches that wait to be submitted: more, where programs
   * bring their own parameters.
   */
  #used = 0;
  #dispatches = 0;
  #profile: Profile | undefined;
  #rehearsal: ((run: RehearsedRun) => void) | undefined;
  #tally: { runs: number; flops: number; bytes: number } | undefined;
  /** Takes what is recorded in place of the device. */
  capture: Capture | undefined;

  constructor(gpu: Gpu, paramsLayout: GPUBindGroupLayout) {
    this.#gpu = gpu;
    this.#paramsLayout = paramsLayout;
    this.#params = gpu.device.createBuffer({
      size: slots * slotBytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.#paramSlots = this.paramSlots(this.#params);
  }

  /** Whether anything waits to be submitted. */
  get pending(): boolean {
    return this.#encoder !== undefined;
  }

  /** Records one run of a compiled kernel. `pack` writes the uniform parameters. */
  dispatch(
    kernel: CompiledKernel,
    entries: readonly GPUBufferBinding[],
    pack: (view: DataView) => void,
    grid: Grid,
    name: string,
    cost?: Cost,
  ): void {
    if (this.capture || this.#rehearsal) {
      const params = new Uint8Array(slotBytes);
      pack(new DataView(params.buffer));
      if (this.capture) this.capture.dispatch({ kernel, entries, params, grid, name, cost });
      else this.#note({ kernel, entries, params, grid });
      return;
    }
    this.#makeRoom();
    const slot = this.#used++;
    pack(this.#views[slot]);
    const group = this.group(kernel, entries);
    this.#encode({ pipeline: kernel.pipeline, group, slot, grid, name, cost }, this.#paramSlots);
  }

  /** Records a copy between buffers, in order with the dispatches. */
  copy(source: GPUBuffer, sourceOffset: number, target: GPUBuffer, targetOffset: number, bytes: number): void {
    if (this.capture) return this.capture.copy({ source, sourceOffset, target, targetOffset, bytes });
    if (this.#rehearsal) return;
    this.#endPass();
    const encoder = this.#encoder ??= this.#gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(source, sourceOffset, target, targetOffset, bytes);
  }

  /**
   * Records the commands of a program with its own parameters.
   *
   * @throws {GpuError} while another program is captured; {@linkcode DeviceLostError} when the
   *   device is gone
   */
  replay(commands: readonly ProgramCommand[], params: ParamSlots): void {
    this.#gpu.throwIfLost();
    if (this.capture) throw new GpuError("Cannot run a program while another is captured: run it before, or after");
    for (const command of commands) {
      if ("source" in command) {
        this.copy(command.source, command.sourceOffset, command.target, command.targetOffset, command.bytes);
      } else if (this.#rehearsal) {
        this.#note(command.run);
      } else {
        this.#makeRoom();
        this.#encode(command, params);
      }
    }
  }

  #note({ kernel, entries, params, grid }: KernelRun): void {
    this.#rehearsal!({ kernel, bindingBytes: entries.map(({ size }) => size!), params, grid });
  }

  /** Submits a full recorder. */
  #makeRoom(): void {
    if (this.#dispatches === slots || this.#profile?.full) this.submit();
    this.#dispatches++;
  }

  #encode({ pipeline, group, slot, grid, name, cost }: Dispatch, params: ParamSlots): void {
    if (this.#tally && cost) {
      this.#tally.runs++;
      this.#tally.flops += cost.flops;
      this.#tally.bytes += cost.bytes;
    }
    const encoder = this.#encoder ??= this.#gpu.device.createCommandEncoder();
    if (this.#profile) {
      this.#endPass();
      this.#pass = encoder.beginComputePass({ timestampWrites: this.#profile.start(name, cost) });
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

  /** Hands everything recorded to the device. Does not wait. */
  submit(): void {
    const encoder = this.#encoder;
    if (!encoder) return;
    this.#endPass();
    this.#profile?.resolve(encoder);
    const { queue } = this.#gpu.device;
    const used = this.#used;
    this.#encoder = undefined;
    this.#used = this.#dispatches = 0;
    this.#gpu.guarded("run the recorded kernels", () => {
      if (used > 0) queue.writeBuffer(this.#params, 0, this.#staging, 0, used * slotBytes);
      queue.submit([encoder.finish()]);
    });
    this.#profile?.collect();
  }

  /** Forgets all bind groups: before buffers are destroyed, so that nothing keeps their memory. */
  dropGroups(): void {
    this.#groups.clear();
  }

  /** From here to {@linkcode endProfile}, each dispatch is timed in a pass of its own. */
  beginProfile(): void {
    this.submit();
    this.#profile = new Profile(this.#gpu);
  }

  /** The times since {@linkcode beginProfile}, by kernel, costliest first. */
  async endProfile(): Promise<KernelProfile[]> {
    this.submit();
    const profile = this.#profile;
    this.#profile = undefined;
    return await profile?.rows() ?? [];
  }

  /**
   * Notes the runs that `body` asks for, and does none of them: kernels compile, tensors get
   * memory, no number is computed.
   */
  async rehearse(
    body: () => void | Promise<void>,
    onRun: (run: RehearsedRun) => void = () => {},
  ): Promise<RehearsedRun[]> {
    const runs: RehearsedRun[] = [];
    this.#rehearsal = (run) => {
      runs.push(run);
      onRun(run);
    };
    try {
      const waiting = body();
      if (waiting) await waiting; // else nobody else's turn comes meanwhile
    } finally {
      this.#rehearsal = undefined;
    }
    return runs;
  }

  /** Whether runs are noted, and not done. */
  get rehearsing(): boolean {
    return this.#rehearsal !== undefined;
  }

  /** Whether the costs of dispatches are being added up. */
  get tallying(): boolean {
    return this.#tally !== undefined;
  }

  /** Adds up the costs of what `body` dispatches. */
  tally(body: () => void): Cost & { readonly runs: number } {
    const tally = this.#tally = { runs: 0, flops: 0, bytes: 0 };
    try {
      body();
    } finally {
      this.#tally = undefined;
    }
    return tally;
  }

  /** Frees the recorder's own buffers. */
  dispose(): void {
    this.#groups.clear();
    this.#params.destroy();
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#pipeline = undefined;
  }

  /** A buffer of parameters as dispatches bind it. */
  paramSlots(buffer: GPUBuffer): ParamSlots {
    const group = this.#gpu.device.createBindGroup({
      layout: this.#paramsLayout,
      entries: [{ binding: 0, resource: { buffer, size: slotBytes } }],
    });
    return { group, offsets: Uint32Array.from({ length: buffer.size / slotBytes }, (_, slot) => slot * slotBytes) };
  }

  /** The bind group of a kernel's buffers: the one of before, where there is one. */
  group(kernel: CompiledKernel, entries: readonly GPUBufferBinding[]): GPUBindGroup {
    let key = `${kernel.layout.id}`;
    for (const { buffer, offset, size } of entries) key += `|${this.#id(buffer)},${offset},${size}`;
    let group = this.#groups.get(key);
    if (!group) {
      group = this.#gpu.device.createBindGroup({
        layout: kernel.layout.layout,
        entries: entries.map((resource, binding) => ({ binding, resource })),
      });
      this.#groups.set(key, group);
    }
    return group;
  }

  #id(buffer: GPUBuffer): number {
    let id = this.#bufferIds.get(buffer);
    if (id === undefined) this.#bufferIds.set(buffer, id = this.#nextBufferId++);
    return id;
  }
}

/**
 * Timestamps of single dispatches. Passes of their own change the timing a little: good for
 * attribution, not for the last percent.
 */
class Profile {
  readonly #gpu: Gpu;
  readonly #capacity = 1024;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  #batch: { name: string; cost?: Cost }[] = [];
  readonly #batches: { runs: { name: string; cost?: Cost }[]; stamps: Promise<ArrayBuffer> }[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.#queries = gpu.device.createQuerySet({ type: "timestamp", count: 2 * this.#capacity });
    this.#resolved = gpu.device.createBuffer({
      size: 16 * this.#capacity,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
  }

  get full(): boolean {
    return this.#batch.length === this.#capacity;
  }

  start(name: string, cost?: Cost): GPUComputePassTimestampWrites {
    const index = this.#batch.push({ name, cost }) - 1;
    return { querySet: this.#queries, beginningOfPassWriteIndex: 2 * index, endOfPassWriteIndex: 2 * index + 1 };
  }

  resolve(encoder: GPUCommandEncoder): void {
    if (this.#batch.length > 0) encoder.resolveQuerySet(this.#queries, 0, 2 * this.#batch.length, this.#resolved, 0);
  }

  collect(): void {
    const runs = this.#batch;
    this.#batch = [];
    if (runs.length === 0) return;
    const stamps = this.#gpu.read(this.#resolved, 16 * runs.length);
    stamps.catch(() => {}); // rows() throws it; until then nobody listens
    this.#batches.push({ runs, stamps });
  }

  async rows(): Promise<KernelProfile[]> {
    const rows = new Map<string, { kernel: string; runs: number; ms: number; flops: number; bytes: number }>();
    for (const { runs, stamps } of this.#batches) {
      const times = new BigUint64Array(await stamps);
      runs.forEach(({ name, cost }, index) => {
        const row = rows.get(name) ?? { kernel: name, runs: 0, ms: 0, flops: 0, bytes: 0 };
        rows.set(name, row);
        row.runs++;
        row.ms += Number(times[2 * index + 1] - times[2 * index]) / 1e6;
        row.flops += cost?.flops ?? 0;
        row.bytes += cost?.bytes ?? 0;
      });
    }
    this.#queries.destroy();
    this.#resolved.destroy();
    return [...rows.values()].sort((a, b) => b.ms - a.ms);
  }
}
