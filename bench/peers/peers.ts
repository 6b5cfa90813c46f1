/**
 * Other engines that do the same work in the same run, to compare with: tfjs-backend-webgpu and
 * jax-js on our adapter; PyTorch on the GPU by CUDA where our device is one, otherwise on the CPU.
 *
 * @module
 */
import { type PeerTask, taskFlops } from "../cases/task.ts";
import type { Work } from "../measure/timing.ts";

/** An engine that can be timed. */
export interface Peer extends Disposable {
  /** With its version. */
  readonly name: string;
  /** @throws where the engine cannot do the task */
  prepare(task: PeerTask): Promise<PeerWork>;
}

/** A task made ready in an engine. */
export interface PeerWork extends Work, Disposable {
  /** Numbers of the result, in any order: a proof that it is the same work. */
  result(): Promise<Float32Array>;
}

/** Peers that are there, and why the others are not. */
export interface OpenedPeers extends Disposable {
  readonly peers: readonly Peer[];
  readonly absent: readonly string[];
}

/** A run of a peer that would take longer is left out. */
const longestRunMs = 60_000;

/** What peers were seen to manage, by which one can tell that they would take minutes. */
export class PeerPace {
  /** Floating-point operations a millisecond, at best. */
  readonly #best = new Map<string, number>();

  /** Remembers a run. */
  note(peer: string, task: PeerTask, ms: number): void {
    const key = `${peer} ${task.op}`;
    this.#best.set(key, Math.max(this.#best.get(key) ?? 0, taskFlops(task) / ms));
  }

  /**
   * Why a peer should not try a task, if it should not: even at its best it would take too long.
   */
  refusal(peer: string, task: PeerTask): string | undefined {
    const best = this.#best.get(`${peer} ${task.op}`);
    const ms = best === undefined ? 0 : taskFlops(task) / best;
    if (ms <= longestRunMs) return undefined;
    return `left out, as it would take ${Math.round(ms / 1000)} s or more (limit: ${longestRunMs / 1000} s)`;
  }
}

/**
 * Opens every peer that this machine has.
 *
 * @param options.python a Python with PyTorch; none is tried without it
 * @param options.isSoftware whether our own device is the CPU: then PyTorch's is it, too
 */
export async function openPeers(
  options: { waitMs: number; isSoftware: boolean; python?: string },
): Promise<OpenedPeers> {
  const { python, waitMs, isSoftware } = options;
  const openers: [name: string, open: () => Promise<Peer[]>][] = [
    ["tfjs", async () => [await (await import("./tfjs.ts")).openTfjs({ waitMs })]],
    ["jax-js", async () => [await (await import("./jax.ts")).openJax({ waitMs })]],
  ];
  const absent: string[] = [];
  if (python) {
    openers.push(["PyTorch", async () => (await import("./torch.ts")).openTorch(python, { isSoftware })]);
  } else absent.push("PyTorch: name a Python that has it (--python PATH, or BLUEROSE_PYTHON in the environment)");
  const peers: Peer[] = [];
  for (const [name, open] of openers) {
    try {
      peers.push(...await open());
    } catch (error) {
      absent.push(`${name}: ${error instanceof Error ? error.message : error}`);
    }
  }
  return { peers, absent, [Symbol.dispose]: () => peers.forEach((peer) => peer[Symbol.dispose]()) };
}

/**
 * Whether two results hold the same numbers, in whatever layout: their sums of squares agree to
 * f32's accuracy for the longest sums here, and none is infinite or NaN.
 */
export function resultsAgree(ours: Float32Array, theirs: Float32Array): boolean {
  const squares = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0);
  const [a, b] = [squares(ours), squares(theirs)];
  return ours.length === theirs.length && Number.isFinite(b) && Math.abs(a - b) <= 1e-3 * a;
}

/**
 * Loads a package that only `--peers` needs: named here and not in deno.json, so that nobody else
 * downloads it.
 */
// deno-lint-ignore no-explicit-any
export async function importPackage(specifier: string): Promise<any> {
  return await import(specifier);
}
