/**
 * Compiling kernels before they are wanted, on all cores.
 *
 * Most drivers compile when a pipeline is created. Mesa's software driver compiles when a kernel
 * first runs, one at a time on a device, and keeps the result in a cache on disk that every device
 * reads. So what is going to run is rehearsed, and its kernels are shared out among this device and
 * others, which live no longer than that; each runs its share on one workgroup, over a few bytes.
 * What another device compiled, this one then finds.
 *
 * @module
 */
import { Gpu } from "./gpu.ts";
import type { CompiledKernel } from "./kernel/pipeline_cache.ts";
import type { RehearsedRun } from "./record/rehearse_sink.ts";
import { slotBytes } from "./record/sink.ts";

/** Devices beyond this would wait for each other's turn at the cache rather than compile. */
const mostDevices = 4;

/**
 * A kernel longer than two thirds of the others takes llvmpipe 120 ms and more to compile, and some
 * 20 to load from its cache. One that takes less than this was in the cache, and so will the others
 * be: opening devices to load them faster would take longer.
 */
const cachedMs = 80;

/**
 * Has the driver compile all kernels that `body` runs and that this device has not compiled yet, in
 * the time of the slowest share of them. Does nothing where drivers compile when pipelines are
 * created, on machines with one core, and during a rehearsal.
 *
 * @param body what to rehearse, see {@linkcode Gpu.rehearse}; it does not wait, since what others
 *   asked of the device meanwhile would be lost
 * @throws {GpuError} when a kernel fails to compile or to run
 */
export async function compileAhead(gpu: Gpu, body: () => void): Promise<void> {
  const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
  if (!gpu.info.compilesLate || cores < 2 || gpu.context.recorder.rehearsing) return;
  const known = new Set(gpu.context.pipelines.all);
  const fresh = new Map<CompiledKernel, RehearsedRun>();
  await gpu.context.rehearse(body, (run) => {
    if (!known.has(run.kernel) && !fresh.has(run.kernel)) fresh.set(run.kernel, run);
  });
  gpu.trim(); // what was rehearsed together need not be in memory together
  const longestFirst = [...fresh.values()].sort((a, b) => b.kernel.code.length - a.kernel.code.length);
  const [trial] = longestFirst.splice(Math.floor(longestFirst.length / 3), 1);
  using own = new Member(gpu, { isOwner: true });
  const started = performance.now();
  if (trial) own.submit([trial]);
  await own.finished();
  if (longestFirst.length === 0 || performance.now() - started < cachedMs) return;
  using helpers = await Helpers.open(gpu, Math.min(cores, mostDevices) - 1);
  const members = [own, ...helpers.members];
  const shares = shareOut(longestFirst, members.length);
  members.forEach((member, index) => member.submit(shares[index])); // all before the first wait, as Deno's waits block
  for (const member of members) await member.finished();
}

/**
 * What a helper starts behind with, as a share of all code: its pipelines have to be created first,
 * while this device compiles already.
 */
const helperStartupShare = 0.06;

/**
 * Shares of about the same length of code: the next longest to whoever has the least. The first
 * share is this device's.
 */
function shareOut(longestFirst: readonly RehearsedRun[], count: number): RehearsedRun[][] {
  const whole = longestFirst.reduce((sum, { kernel }) => sum + kernel.code.length, 0);
  const shares = Array.from({ length: count }, (_, index) => ({
    runs: [] as RehearsedRun[],
    length: index === 0 ? 0 : helperStartupShare * whole,
  }));
  for (const run of longestFirst) {
    const least = shares.reduce((least, share) => share.length < least.length ? share : least);
    least.runs.push(run);
    least.length += run.kernel.code.length;
  }
  return shares.map(({ runs }) => runs);
}

/** Devices that are opened to compile, and closed again. */
class Helpers implements Disposable {
  readonly members: readonly Member[];
  readonly #gpus: readonly Gpu[];

  private constructor(gpus: readonly Gpu[]) {
    this.#gpus = gpus;
    this.members = gpus.map((gpu) => new Member(gpu, { isOwner: false }));
  }

  static async open(gpu: Gpu, count: number): Promise<Helpers> {
    return new Helpers(await Promise.all(Array.from({ length: count }, () => Gpu.request(gpu.options))));
  }

  [Symbol.dispose](): void {
    for (const member of this.members) member[Symbol.dispose]();
    for (const gpu of this.#gpus) gpu[Symbol.dispose]();
  }
}

/** Bytes of what kernels are run on: accesses beyond them are harmless, as WebGPU promises. */
const memoryBytes = 65536;

/** A device that runs kernels on one workgroup each. */
class Member implements Disposable {
  readonly #gpu: Gpu;
  readonly #isOwner: boolean;
  /**
   * One buffer a binding, since a kernel may not write what it reads. What they hold does not
   * matter.
   */
  readonly #memory: GPUBuffer[] = [];
  readonly #buffers: GPUBuffer[] = [];

  /** @param options.isOwner whether the kernels were compiled for this very device */
  constructor(gpu: Gpu, { isOwner }: { isOwner: boolean }) {
    this.#gpu = gpu;
    this.#isOwner = isOwner;
  }

  submit(runs: readonly RehearsedRun[]): void {
    const { device } = this.#gpu.context;
    this.#gpu.context.guarded("run kernels on one workgroup each", () => {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (const run of runs) this.#encode(pass, run);
      pass.end();
      device.queue.submit([encoder.finish()]);
    });
  }

  async finished(): Promise<void> {
    await this.#gpu.finished();
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }

  #encode(pass: GPUComputePassEncoder, { kernel, params }: RehearsedRun): void {
    const { device, pipelines, recorder } = this.#gpu.context;
    const { pipeline, layout, accesses } = this.#isOwner ? kernel : pipelines.recompile(kernel);
    while (this.#memory.length < accesses.length) this.#memory.push(this.#buffer(memoryBytes, GPUBufferUsage.STORAGE));
    const uniforms = this.#buffer(slotBytes, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
    device.queue.writeBuffer(uniforms, 0, params);
    const entries = accesses.map((_, binding) => ({ binding, resource: { buffer: this.#memory[binding] } }));
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: layout.layout, entries }));
    pass.setBindGroup(1, recorder.groups.paramSlots(uniforms).group, [0]);
    pass.dispatchWorkgroups(1);
  }

  #buffer(size: number, usage: number): GPUBuffer {
    const buffer = this.#gpu.context.device.createBuffer({ size, usage });
    this.#buffers.push(buffer);
    return buffer;
  }
}
