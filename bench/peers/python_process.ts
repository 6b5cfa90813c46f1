import type { Work } from "../measure/timing.ts";
import { threadsAtRest } from "./peer.ts";

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

/** Work that a process has prepared and times itself. */
export function processWork(process: PythonProcess, details: Record<string, unknown> = {}): Work {
  return {
    async sample(count) {
      const { ms } = await process.ask({ ...details, runs: count }) as { ms: number };
      await threadsAtRest();
      return { ms };
    },
  };
}
