import type { Peer, PeerWork } from "../peers.ts";
import { operands } from "../task.ts";

/** PyTorch's threads go on spinning for a while after their work, on the cores that a software device needs. */
const settlingMs = 250;

/** A Python process that answers one line of JSON with another. */
export class PythonProcess implements Disposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncIterator<string>;

  /** Starts `script`, which lies beside this file. */
  constructor(python: string, script: string) {
    this.#child = new Deno.Command(python, {
      args: [`${import.meta.dirname}/${script}`],
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
    if (done) throw new Error("the Python process ended: has it PyTorch?");
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

/** PyTorch on the CPU, with all its threads, in a process of its own that times itself. */
export async function openTorch(python: string): Promise<Peer> {
  const process = new PythonProcess(python, "torch_peer.py");
  let version: unknown;
  try {
    ({ version } = await process.ask({ hello: true }));
  } catch (error) {
    process[Symbol.dispose]();
    throw error;
  }
  return {
    name: `PyTorch ${version} CPU`,
    async prepare(task): Promise<PeerWork> {
      const { squares, count } = await process.ask({ task }, operands(task)) as { squares: number; count: number };
      return {
        async sample(count) {
          const { ms } = await process.ask({ runs: count }) as { ms: number };
          await new Promise((resolve) => setTimeout(resolve, settlingMs));
          return { ms };
        },
        // The process sums its result up: as many numbers with the same sum of squares stand for it.
        result: () => Promise.resolve(new Float32Array(count).fill(Math.sqrt(squares / count))),
        [Symbol.dispose]() {},
      };
    },
    [Symbol.dispose]: () => process[Symbol.dispose](),
  };
}
