import type { Peer, PeerWork } from "./peers.ts";
import { operands } from "../cases/task.ts";
import type { Work } from "../measure/timing.ts";

/**
 * PyTorch's threads go on spinning for a while after their work, on the cores that a software
 * device needs.
 */
const settlingMs = 250;

/** A Python process that answers one line of JSON with another. */
export class PythonProcess implements Disposable {
  readonly #script: string;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncIterator<string>;

  /** Starts `script`, which lies beside this file. */
  constructor(python: string, script: string) {
    this.#script = script;
    this.#child = new Deno.Command(python, {
      args: ["-B", `${import.meta.dirname}/${script}`],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#lines = linesOf(this.#child.stdout);
  }

  /**
   * Sends a question, with binary data behind it, and waits for the answer.
   *
   * @throws {Error} with the script's own message where it failed, or when it ended
   */
  async ask(
    question: Record<string, unknown>,
    data: readonly Float32Array<ArrayBuffer>[] = [],
  ): Promise<Record<string, unknown>> {
    const line = JSON.stringify({ ...question, floats: data.map(({ length }) => length) });
    await this.#writer.write(new TextEncoder().encode(`${line}\n`));
    for (const values of data) {
      await this.#writer.write(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the Python process ended: has it all that ${this.#script} imports?`);
    const answer = JSON.parse(value);
    if (typeof answer.error === "string") throw new Error(answer.error);
    return answer;
  }

  /** Ends the process. */
  [Symbol.dispose](): void {
    this.#writer.close().catch(() => {});
    try {
      this.#child.kill();
    } catch {
      // It has ended by itself.
    }
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

/** Where PyTorch computes, and in which precision. */
export interface TorchPlace {
  readonly device: "cpu" | "cuda";
  readonly dtype: "f32" | "f16";
}

/** How a place is called, with PyTorch's version. */
export function torchName(version: string, { device, dtype }: TorchPlace): string {
  return `PyTorch ${version} ${device === "cpu" ? "CPU" : `CUDA ${dtype}`}`;
}

/**
 * Where PyTorch is to compute: on the CPU in f32 where our own device is software, or it has no
 * GPU; otherwise on the GPU, in f32 and in f16.
 *
 * @throws {Error} where the Python has no PyTorch
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

/** PyTorch at each of its {@linkcode torchPlaces}, in a process of its own that times itself. */
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
        // The process sums its result up: as many numbers with the same sum of squares stand for
        // it.
        result: () => Promise.resolve(new Float32Array(count).fill(Math.sqrt(squares / count))),
        [Symbol.dispose]() {},
      };
    },
    [Symbol.dispose]: () => process[Symbol.dispose](),
  };
}

/** What a process has prepared, as work that it times itself. */
export function processWork(process: PythonProcess): Work {
  return {
    async sample(count) {
      const { ms } = await process.ask({ runs: count }) as { ms: number };
      await new Promise((resolve) => setTimeout(resolve, settlingMs));
      return { ms };
    },
  };
}
