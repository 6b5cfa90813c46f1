import type { Peer, PeerWork } from "./peer.ts";
import { operands } from "../cases/task.ts";
import type { Work } from "../measure/timing.ts";

/**
 * Pause after PyTorch's work: its threads keep spinning on the cores that a software device needs.
 */
const settlingMs = 250;

/** A Python process that answers each line of JSON with another. */
export class PythonProcess implements Disposable {
  readonly #script: string;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncIterator<string>;

  /** Starts `script`, which lies in this folder. */
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
   * Sends a request, followed by binary data, and waits for the reply.
   *
   * @throws {Error} with the script's message when it failed or ended
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

/** Work that a process has prepared and times itself. */
export function processWork(process: PythonProcess): Work {
  return {
    async sample(count) {
      const { ms } = await process.ask({ runs: count }) as { ms: number };
      await new Promise((resolve) => setTimeout(resolve, settlingMs));
      return { ms };
    },
  };
}
