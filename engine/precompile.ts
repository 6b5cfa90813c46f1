/**
 * Compiles kernels before they are needed, on all cores.
 *
 * Most drivers compile when a pipeline is created. Mesa's software driver compiles when a kernel
 * first runs, one kernel at a time per device, and stores the result in a cache on disk that all
 * devices read. {@linkcode compileAhead} therefore rehearses the work, divides its kernels among
 * this device and temporary helper devices, and runs each kernel on one workgroup over a few bytes.
 * This device then finds in the cache what the helpers compiled.
 *
 * @module
 */
import { Gpu } from "./gpu.ts";
import type { CompiledKernel } from "./kernel/pipeline_cache.ts";
import { BindGroups } from "./record/bind_groups.ts";
import { OneWorkgroupRuns } from "./record/one_workgroup.ts";
import type { RehearsedRun } from "./record/rehearse_sink.ts";
import { SubmitSink } from "./record/submit_sink.ts";

/** More devices wait for each other at the cache instead of compiling. */
const maxDevices = 4;

/**
 * Milliseconds: a kernel of middle length takes llvmpipe longer to compile, and less to load from
 * its cache. One kernel is tried. If it was in the cache, the others are too, and opening helpers
 * would cost more than it gains.
 */
const cachedMs = 80;

/**
 * Startup cost of a helper, as a fraction of the total code size: it creates its pipelines while
 * this device already compiles.
 */
const helperStartupShare = 0.06;

/**
 * Makes the driver compile all kernels that `body` runs and that this device has not compiled yet.
 * Does nothing where drivers compile when pipelines are created, on machines with one core, and
 * during a rehearsal.
 *
 * @param body what to rehearse, see {@linkcode GpuContext.rehearse}. It must be synchronous: work
 *   that others record during a rehearsal is lost.
 * @throws {GpuError} when a kernel fails to compile or to run
 */
export async function compileAhead(gpu: Gpu, body: () => void): Promise<void> {
  const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
  const { context } = gpu;
  if (!gpu.info.compilesLate || cores < 2 || context.recorder.rehearsing) return;
  const known = new Set(context.pipelines.all);
  const fresh = new Map<CompiledKernel, RehearsedRun>();
  await context.rehearse(body, (run) => {
    if (!known.has(run.kernel) && !fresh.has(run.kernel)) fresh.set(run.kernel, run);
  });
  gpu.trim(); // the rehearsal's tensors need not stay in memory together
  if (context.isNull) return;
  const longestFirst = [...fresh.values()].sort((a, b) => b.kernel.code.length - a.kernel.code.length);
  const [trial] = longestFirst.splice(Math.floor(longestFirst.length / 3), 1);
  using members = new DisposableStack();
  const own = members.use(new Member(gpu, { isOwner: true }));
  const started = performance.now();
  if (trial) own.submit([trial]);
  await gpu.finished();
  if (longestFirst.length === 0 || performance.now() - started < cachedMs) return;
  const opened = await Promise.allSettled(
    Array.from({ length: Math.min(cores, maxDevices) - 1 }, () => Gpu.request(gpu.options)),
  );
  // Helpers that cannot be opened leave their share to the others.
  const helpers = opened.flatMap((result) => result.status === "fulfilled" ? [members.use(result.value)] : []);
  const all = [own, ...helpers.map((helper) => members.use(new Member(helper, { isOwner: false })))];
  const shares = shareOut(longestFirst, all.length);
  // before the first wait: Deno's waits block
  all.forEach((member, index) => member.submit(shares[index]));
  for (const member of all) await member.gpu.finished();
}

/**
 * Divides runs into shares of similar code length, greedily: the next longest goes to the shortest
 * share. The first share is this device's.
 */
function shareOut(longestFirst: readonly RehearsedRun[], count: number): RehearsedRun[][] {
  const total = longestFirst.reduce((sum, { kernel }) => sum + kernel.code.length, 0);
  const shares = Array.from({ length: count }, (_, index) => ({
    runs: [] as RehearsedRun[],
    length: index === 0 ? 0 : helperStartupShare * total,
  }));
  for (const run of longestFirst) {
    const shortest = shares.reduce((shortest, share) => share.length < shortest.length ? share : shortest);
    shortest.runs.push(run);
    shortest.length += run.kernel.code.length;
  }
  return shares.map(({ runs }) => runs);
}

/** A device that runs kernels on one workgroup each. */
class Member implements Disposable {
  readonly gpu: Gpu;
  readonly #isOwner: boolean;
  readonly #owned = new DisposableStack();
  readonly #runs: OneWorkgroupRuns;
  /** A sink of its own, so that it works whatever the recorder's current sink is. */
  readonly #sink: SubmitSink;

  /** @param options.isOwner whether the kernels were compiled for this device */
  constructor(gpu: Gpu, { isOwner }: { isOwner: boolean }) {
    this.gpu = gpu;
    this.#isOwner = isOwner;
    this.#runs = this.#owned.use(new OneWorkgroupRuns(gpu.context));
    this.#sink = this.#owned.use(new SubmitSink(gpu.context, new BindGroups(gpu.context)));
  }

  submit(runs: readonly RehearsedRun[]): void {
    for (const { kernel, params } of runs) {
      const own = this.#isOwner ? kernel : this.gpu.context.pipelines.recompile(kernel);
      this.#sink.dispatch(this.#runs.record({ kernel: own, params }));
    }
    this.#sink.submit();
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
