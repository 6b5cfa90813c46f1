/**
 * Lets other tasks of the event loop run, signal handlers among them, between parts of work that
 * occupies the host. Without a signal it does nothing, so that it costs nothing.
 *
 * @throws the signal's reason when it has aborted
 * @module
 */
export async function breathe(signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return;
  signal.throwIfAborted();
  await new Promise((resolve) => setTimeout(resolve));
  signal.throwIfAborted();
}
