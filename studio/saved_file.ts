/** Files for the visitor to save: names and bytes. @module */

/** The media type of edits and LoRAs. */
export const binary = "application/octet-stream";

/** A prompt as part of a file name: letters and digits of any script, joined by dashes. */
export function fileName(prompt: string): string {
  return prompt.normalize("NFC").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "picture";
}

/** The bytes that `write` hands to its sink. */
export async function collected(
  write: (sink: (chunk: Uint8Array) => void) => Promise<unknown>,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await write((chunk) => void parts.push(chunk.slice()));
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
