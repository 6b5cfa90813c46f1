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
 * where drivers compile when pipelines are created, and on machines with one core.
 *
 * @param body what to rehearse: see {@linkcode Gpu.rehearse}
 * @throws {GpuError} when a kernel fails to compile or to run
 */
export async function compileAhead(gpu: Gpu, body: () => void | Promise<void>): Promise<void> {
  const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
  if (gpu.info.deviceClass !== "software" || cores < 2) return;
  const known = new Set(gpu.compiledKernels);
  using team = await Team.open(gpu, Math.min(cores, mostDevices) - 1);
  await gpu.rehearse(body, ({ kernel, params }) => {
    if (known.has(kernel)) return;
    known.add(kernel);
    team.run(kernel, params);
  });
  await team.finished();
}

/** This device and its helpers. */
class Team implements Disposable {
  readonly #members: readonly Member[];
  readonly #load: number[];
  readonly #helpers: readonly Gpu[];

  private constructor(gpu: Gpu, helpers: readonly Gpu[]) {
    this.#helpers = helpers;
    this.#members = [gpu, ...helpers].map((member) => new Member(member));
    this.#load = this.#members.map(() => 0);
  }

  static async open(gpu: Gpu, helpers: number): Promise<Team> {
    return new Team(gpu, await Promise.all(Array.from({ length: helpers }, () => Gpu.request(gpu.options))));
  }

  /** Gives a kernel to the member with the least to do, by the length of what it has got. */
  run(kernel: CompiledKernel, params: Uint8Array<ArrayBuffer>): void {
    const least = this.#load.indexOf(Math.min(...this.#load));
    this.#load[least] += kernel.code.length;
    this.#members[least].run(kernel, params);
  }

  async finished(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.finished()));
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
  /** One buffer a binding, since a kernel may not write what it reads. What they hold does not matter. */
  readonly #memory: GPUBuffer[] = [];
  readonly #buffers: GPUBuffer[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  run(kernel: CompiledKernel, params: Uint8Array<ArrayBuffer>): void {
    const { device } = this.#gpu;
    const own = this.#gpu.recompiled(kernel);
    while (this.#memory.length < kernel.accesses.length) {
      this.#memory.push(this.#buffer(memoryBytes, GPUBufferUsage.STORAGE));
    }
    this.#gpu.guarded(`run the kernel ${kernel.name} on one workgroup`, () => {
      const uniforms = this.#buffer(slotBytes, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
      device.queue.writeBuffer(uniforms, 0, params);
      const bindings = kernel.accesses.map((_, binding) => ({ binding, resource: { buffer: this.#memory[binding] } }));
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(own.pipeline);
      pass.setBindGroup(0, device.createBindGroup({ layout: own.layout.layout, entries: bindings }));
      pass.setBindGroup(1, this.#gpu.recorder.paramSlots(uniforms).group, [0]);
      pass.dispatchWorkgroups(1);
      pass.end();
      device.queue.submit([encoder.finish()]);
    });
  }

  #buffer(size: number, usage: number): GPUBuffer {
    const buffer = this.#gpu.device.createBuffer({ size, usage });
    this.#buffers.push(buffer);
    return buffer;
  }

  async finished(): Promise<void> {
    await this.#gpu.finished();
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}
