/**
 * Other engines that perform the same work in the same run: tfjs-backend-webgpu and jax-js on our
 * adapter; ONNX Runtime by WebGPU and, where our device is the CPU, on the CPU; and PyTorch with
 * CUDA where our device is a GPU that it supports, otherwise on the CPU.
 *
 * @module
 */
import { type PeerTask, taskFlops } from "../cases/task.ts";
import { firstLine } from "./first_line.ts";
import type { Peer } from "./peer.ts";

/** The available peers, and the reasons why others are missing. */
export interface OpenedPeers extends Disposable {
  readonly peers: readonly Peer[];
  readonly absent: readonly string[];
}

/** Peers skip tasks whose run would take longer. */
const longestRunMs = 60_000;

/** The best rate seen of each peer, to predict runs that would take minutes. */
export class PeerPace {
  /** Floating-point operations per millisecond. */
  readonly #best = new Map<string, number>();

  /** Records the time of a run. */
  note(peer: string, task: PeerTask, ms: number): void {
    const key = `${peer} ${task.op}`;
    this.#best.set(key, Math.max(this.#best.get(key) ?? 0, taskFlops(task) / ms));
  }

  /** The reason to skip a task, if even the best rate of the peer would take too long. */
  skipReason(peer: string, task: PeerTask): string | undefined {
    const best = this.#best.get(`${peer} ${task.op}`);
    const ms = best === undefined ? 0 : taskFlops(task) / best;
    if (ms <= longestRunMs) return undefined;
    return `skipped, because a run would take at least ${Math.round(ms / 1000)} s (limit: ${longestRunMs / 1000} s)`;
  }
}

/**
 * Opens every peer that is available on this machine.
 *
 * @param options.python a Python with PyTorch; PyTorch is skipped without it
 * @param options.isSoftware whether our device is the CPU; PyTorch then runs on the CPU as well
 */
export async function openPeers(
  options: { waitMs: number; isSoftware: boolean; python?: string },
): Promise<OpenedPeers> {
  const { python, waitMs, isSoftware } = options;
  const openers: (readonly [name: string, open: () => Promise<Peer[]>])[] = [
    ["tfjs", async () => [await (await import("./tfjs.ts")).openTfjs({ waitMs })]],
    ["jax-js", async () => [await (await import("./jax.ts")).openJax({ waitMs })]],
    ["ONNX Runtime WebGPU", async () => [await (await import("./onnx.ts")).openOnnx("webgpu")]],
    ...(isSoftware ? [["ONNX Runtime CPU", openOnnxOnCpu] as const] : []),
  ];
  const absent: string[] = [];
  if (python) {
    openers.push(["PyTorch", async () => (await import("./torch.ts")).openTorch(python, { isSoftware })]);
  } else absent.push("PyTorch: requires --python PATH or $BLUEROSE_PYTHON, a Python that has it");
  const peers: Peer[] = [];
  for (const [name, open] of openers) {
    try {
      peers.push(...await open());
    } catch (error) {
      absent.push(`${name}: ${firstLine(error)}`);
    }
  }
  return { peers, absent, [Symbol.dispose]: () => peers.forEach((peer) => peer[Symbol.dispose]()) };
}

async function openOnnxOnCpu(): Promise<Peer[]> {
  return [await (await import("./onnx.ts")).openOnnx("cpu")];
}

/**
 * Whether two results hold the same elements in any layout: the sums of squares agree to the
 * accuracy of f32 for the longest sums here, and all elements are finite.
 */
export function resultsAgree(ours: Float32Array, theirs: Float32Array): boolean {
  const squares = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0);
  const [a, b] = [squares(ours), squares(theirs)];
  return ours.length === theirs.length && Number.isFinite(b) && Math.abs(a - b) <= 1e-3 * a;
}
