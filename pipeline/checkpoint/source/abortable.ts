/**
 * Waiting that an abort signal ends.
 *
 * Deno 2.9.6 at times loses the abort of a response's body: `fetch` links its request to the given
 * signal weakly, and when the request has been collected, a read of a stalled body waits for ever.
 * So the signal is listened to here.
 *
 * @module
 */

/** Settles as `work` does, or rejects with the signal's reason when it aborts before. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/**
 * The chunks of a response's body. An abort, and a consumer that stops early, end the connection.
 *
 * @throws the signal's reason when it aborts
 */
export async function* chunksOf(
  body: ReadableStream<Uint8Array<ArrayBuffer>> | null,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  if (body === null) return;
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await untilAborted(reader.read(), signal);
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {}); // it may have failed already
  }
}
