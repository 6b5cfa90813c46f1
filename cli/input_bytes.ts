/**
 * The bytes of an input, whatever kind of file it is: a regular file, a pipe, or standard input.
 *
 * @module
 */

/** Inputs that are read whole, such as lists and pictures, have at most so many bytes. */
const mostBytes = 2 ** 28;

/** Why an input is not read. The message completes "Cannot read … as". */
export class UnreadableInput extends Error {
  override name = "UnreadableInput";
}

/**
 * Reads a whole input; `-` is standard input. Pipes are read to their end, so that process
 * substitution works.
 *
 * @param options.pipeWaitMs how long a named pipe may wait for a program that writes into it
 * @throws {UnreadableInput} for a device, a pipe into which nothing writes, and too many bytes;
 *   Deno's errors where it cannot be opened
 */
export async function inputBytes(
  path: string,
  { pipeWaitMs = 10_000 }: { pipeWaitMs?: number } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  if (path === "-") return await bytesUntilEnd(Deno.stdin.readable);
  const info = await Deno.stat(path);
  if (info.isCharDevice || info.isBlockDevice) {
    throw new UnreadableInput("it is a device; a file or a pipe is required (- reads standard input)");
  }
  if (info.isSocket) throw new UnreadableInput("it is a socket; a file or a pipe is required");
  const file = info.isFifo ? await openPipe(path, pipeWaitMs) : await Deno.open(path, { read: true });
  return await bytesUntilEnd(file.readable);
}

/** Opening a named pipe waits until a program opens it for writing. */
async function openPipe(path: string, waitMs: number): Promise<Deno.FsFile> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new UnreadableInput(`it is a pipe into which no program writes (${waitMs / 1000} s)`)),
    waitMs,
  );
  try {
    return await Promise.race([Deno.open(path, { read: true }), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function bytesUntilEnd(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  for await (const part of stream) {
    total += part.length;
    if (total > mostBytes) throw new UnreadableInput(`it has more than ${mostBytes} bytes`);
    parts.push(part);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
