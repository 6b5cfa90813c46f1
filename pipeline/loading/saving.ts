/** Files that appear whole or not at all. */

import { type ByteSink, type TensorEntry, writeSafetensors } from "./safetensors.ts";

/**
 * Writes a file beside its final place and moves it there once it is complete and on the disk, so that whoever looks
 * finds the old file or the new one and never a part. A failure leaves no trace (Deno only).
 *
 * @throws What `write` throws, and Deno's errors where the folder cannot be written.
 */
export async function writeFileAtomically(path: string, write: (sink: ByteSink) => Promise<unknown>): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    {
      using file = await Deno.open(temporary, { write: true, createNew: true });
      await write(async (chunk) => {
        for (let done = 0; done < chunk.byteLength;) done += await file.write(chunk.subarray(done));
      });
      await file.syncData();
    }
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

/** Writes text as `writeFileAtomically()` does. */
export async function saveText(path: string, text: string): Promise<void> {
  await writeFileAtomically(path, async (sink) => await sink(new TextEncoder().encode(text)));
}

/**
 * Writes a safetensors file as `writeFileAtomically()` does.
 *
 * @throws {SafetensorsError} as `writeSafetensors()` does.
 */
export async function saveSafetensors(
  path: string,
  entries: readonly TensorEntry[],
  options: { metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  await writeFileAtomically(path, (sink) => writeSafetensors(entries, sink, options));
}
