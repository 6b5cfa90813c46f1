import type { Peer, PeerWork } from "./peer.ts";
import { operands } from "../cases/task.ts";
import { processWork, PythonProcess } from "./python_process.ts";

/** The device and precision of PyTorch. */
export interface TorchPlace {
  readonly device: "cpu" | "cuda";
  readonly dtype: "f32" | "f16";
}

/** The name of a place, with PyTorch's version. */
export function torchName(version: string, { device, dtype }: TorchPlace): string {
  return `PyTorch ${version} ${device === "cpu" ? "CPU" : `CUDA ${dtype}`}`;
}

/**
 * The places where PyTorch is measured: the CPU in f32 when our device is software or PyTorch finds
 * no GPU; otherwise the GPU in f32 and f16.
 *
 * @throws {Error} when the Python has no PyTorch
 */
export async function torchPlaces(
  python: string,
  { isSoftware }: { isSoftware: boolean },
): Promise<{ version: string; places: TorchPlace[] }> {
  using process = new PythonProcess(python, "torch_peer.py");
  const { version, cuda } = await process.ask({ hello: true }) as { version: string; cuda: boolean };
  const places: TorchPlace[] = isSoftware || !cuda
    ? [{ device: "cpu", dtype: "f32" }]
    : [{ device: "cuda", dtype: "f32" }, { device: "cuda", dtype: "f16" }];
  return { version, places };
}

/** PyTorch at each of its {@linkcode torchPlaces}, in a process that times itself. */
export async function openTorch(python: string, options: { isSoftware: boolean }): Promise<Peer[]> {
  const { version, places } = await torchPlaces(python, options);
  return places.map((place) => openPlace(new PythonProcess(python, "torch_peer.py"), torchName(version, place), place));
}

function openPlace(process: PythonProcess, name: string, place: TorchPlace): Peer {
  return {
    name,
    async prepare(task): Promise<PeerWork> {
      const answer = await process.ask({ task, ...place }, operands(task)) as { squares: number; count: number };
      const { squares, count } = answer;
      return {
        ...processWork(process),
        // The process reports the sum of squares. An array of equal length and sum stands in for
        // the result.
        result: () => Promise.resolve(new Float32Array(count).fill(Math.sqrt(squares / count))),
        [Symbol.dispose]() {},
      };
    },
    [Symbol.dispose]: () => process[Symbol.dispose](),
  };
}
