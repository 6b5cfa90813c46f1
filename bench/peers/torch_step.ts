import { processWork, PythonProcess } from "./python_process.ts";
import type { StepPeer } from "./step_peer.ts";
import { torchName, torchPlaces } from "./torch.ts";

/** Options of {@linkcode openTorchSteps}. */
export interface TorchStepOptions {
  /** A Python with PyTorch, diffusers and transformers. */
  readonly python: string;
  readonly isSoftware: boolean;
  /** Token ids of the prompts, and our embeddings of them. */
  readonly ids: readonly (readonly number[])[];
  readonly embeddings: Float32Array<ArrayBuffer>;
  /** Ids of SDXL's second encoder, and our pooled embeddings. Default: a model with one encoder. */
  readonly ids2?: readonly (readonly number[])[];
  readonly pooled?: Float32Array<ArrayBuffer>;
  readonly onRemark: (remark: string) => void;
}

/**
 * PyTorch with the model of a folder, at each of its places. The difference of the prompts'
 * embeddings is told as a remark.
 *
 * @throws {Error} when the Python lacks a package or the model does not load
 */
export async function openTorchSteps(folder: string, options: TorchStepOptions): Promise<StepPeer[]> {
  const { python, isSoftware, ids, embeddings, ids2, pooled, onRemark } = options;
  using opened = new DisposableStack();
  const peers: StepPeer[] = [];
  const { version, places } = await torchPlaces(python, { isSoftware });
  for (const place of places) {
    const process = opened.use(new PythonProcess(python, "torch_step.py"));
    const name = torchName(version, place);
    const ours = pooled ? [embeddings, pooled] : [embeddings];
    const { difference } = await process.ask({ folder, ids, ids2, ...place }, ours) as { difference: number };
    onRemark(`${name}: the prompts' embeddings differ by ${difference.toExponential(1)} of their norm`);
    peers.push({
      name,
      async prepare({ pixels, timestep, latents, timeIds }) {
        await process.ask({ timestep, side: pixels / 8, timeIds }, [latents]);
        return processWork(process);
      },
      difference: async (ours) => (await process.ask({}, [ours])).difference as number,
      [Symbol.dispose]: () => process[Symbol.dispose](),
    });
  }
  opened.move();
  return peers;
}
