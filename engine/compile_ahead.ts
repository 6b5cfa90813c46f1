/**
 * Compiling kernels before they are wanted, on all cores.
 *
 * Most drivers compile when a pipeline is created. Mesa's software driver compiles when a kernel first runs, one at a time on a device, and keeps the
 * result in a cache on disk that every device reads. So what is going to run is rehearsed, and its kernels are shared out among this device and
 * others, which live no longer than that; each runs its share on one workgroup, over a few bytes. What another device compiled, this one then finds.
 *
 * @module
 */
import { Gpu } from "./gpu.ts";
import type { CompiledKernel } from "./kernel.ts";
import { slotBytes } from "./recorder.ts";

/** Devices beyond this would wait for each other's turn at the cache rather than compile. */
const mostDevices = 4;

/**
 * Has the driver compile all kernels that `body` runs and that this device has not compiled yet, in the time of the slowest share of them. Does nothing
 * where drivers compile when pipelines are created, on machines with one core, and during a rehearsal.
 *
 * @param body what to rehearse, see {@linkcode Gpu.rehearse}; it does not wait, since what others asked of the device meanwhile would be lost
 * @throws {GpuError} when a kernel fails to compile or to run
 */
export async function compileAhead(gpu: Gpu, body: () => void): Promise<void> {
  const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
  if (!gpu.info.compilesLate || cores < 2 || gpu.recorder.rehearsing) return;
  const known = new Set(gpu.compiledKernels);
  using team = await Team.open(gpu, Math.min(cores, mostDevices) - 1);
  await gpu.rehearse(body, ({ kernel, params }) => {
    if (known.has(kernel)) return;
    known.add(kernel);
    team.add(kernel, params);
  });
  await team.run();
  gpu.trim(); // what was rehearsed together need not be in memory together
}

/** This device and its helpers. */
class Team implements Disposable {
  readonly #members: readonly Member[];
  readonly #load: number[];
  readonly #helpers: readonly Gpu[];

  private constructor(gpu: Gpu, helpers: readonly Gpu[]) {
    this.#helpers = helpers;
    this.#members = [gpu, ...helpers].map((member) => new Member(member, { isOwner: member === gpu }));
    this.#load = this.#members.map(() => 0);
  }

  static async open(gpu: Gpu, helpers: number): Promise<Team> {
    return new Team(gpu, await Promise.all(Array.from({ length: helpers }, () => Gpu.request(gpu.options))));
  }

  /** Gives a kernel to the member with the least to do, by the length of what it has got. */
  add(kernel: CompiledKernel, params: Uint8Array<ArrayBuffer>): void {
    const least = this.#load.indexOf(Math.min(...this.#load));
    this.#load[least] += kernel.code.length;
    this.#members[least].add(kernel, params);
  }

  /** Runs all that was given, on all members at once. */
  async run(): Promise<void> {
    for (const member of this.#members) member.submit(); // all before the first wait, as Deno's waits block
    for (const member of this.#members) await member.finished();
  }

  [Symbol.dispose](): void {
    for (const member of this.#members) member[Symbol.dispose]();
    for (const helper of this.#helpers) helper[Symbol.dispose]();
  }
}

/** Bytes of what kernels are run on: accesses beyond them are harmless, as WebGPU promises. */
const memoryBytes = 65536;

/** A device that runs kernels on one workgroup each. */
class Member implements Disposable {
  readonly #gpu: Gpu;
  readonly #isOwner: boolean;
  readonly #encoder: GPUCommandEncoder;
  readonly #pass: GPUComputePassEncoder;
  /** One buffer a binding, since a kernel may not write what it reads. What they hold does not matter. */
  readonly #memory: GPUBuffer[] = [];
  readonly #buffers: GPUBuffer[] = [];

  constructor(gpu: Gpu, { isOwner }: { isOwner: boolean }) {
    this.#gpu = gpu;
    this.#isOwner = isOwner;
    this.#encoder = gpu.device.createCommandEncoder();
    this.#pass = this.#encoder.beginComputePass();
  }

  add(kernel: CompiledKernel, params: Uint8Array<ArrayBuffer>): void {
    const { device, recorder } = this.#gpu;
    const own = this.#isOwner ? kernel : this.#gpu.recompiled(kernel);
    while (this.#memory.length < kernel.accesses.length) {
      this.#memory.push(this.#buffer(memoryBytes, GPUBufferUsage.STORAGE));
    }
    this.#gpu.guarded(`run the kernel ${kernel.name} on one workgroup`, () => {
      const uniforms = this.#buffer(slotBytes, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
      device.queue.writeBuffer(uniforms, 0, params);
      const entries = kernel.accesses.map((_, binding) => ({ binding, resource: { buffer: this.#memory[binding] } }));
      this.#pass.setPipeline(own.pipeline);
      this.#pass.setBindGroup(0, device.createBindGroup({ layout: own.layout.layout, entries }));
      this.#pass.setBindGroup(1, recorder.paramSlots(uniforms).group, [0]);
      this.#pass.dispatchWorkgroups(1);
    });
  }

  submit(): void {
    this.#gpu.guarded("run kernels on one workgroup each", () => {
      this.#pass.end();
      this.#gpu.device.queue.submit([this.#encoder.finish()]);
    });
  }

  async finished(): Promise<void> {
    await this.#gpu.finished();
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }

  #buffer(size: number, usage: number): GPUBuffer {
    const buffer = this.#gpu.device.createBuffer({ size, usage });
    this.#buffers.push(buffer);
    return buffer;
  }
}
