/**
 * What a command has written, so that it can be told when the command fails.
 *
 * @module
 */
import { writeBytes, type WriteOptions } from "../pipeline/output/file.ts";

const kept = new Set<string>();

/** Notes a file or folder that is finished. */
export function keep(path: string): void {
  kept.add(path);
}

/** Takes a note back: the file has been removed. */
export function unkeep(path: string): void {
  kept.delete(path);
}

/** Begins a new command. */
export function forgetKept(): void {
  kept.clear();
}

/** Writes a finished file, all or nothing, and notes it. */
export async function writeKept(path: string, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
  await writeBytes(path, bytes, options);
  keep(path);
}

/** Names that are told one by one; more are counted. */
const mostNames = 4;

/** The line that says what a failed command has kept; `undefined` where that is nothing. */
export function keptText(): string | undefined {
  if (kept.size === 0) return undefined;
  const names = [...kept];
  const more = names.length > mostNames ? ` and ${names.length - mostNames} more, the last ${names.at(-1)}` : "";
  return `Kept: ${names.slice(0, mostNames).join(", ")}${more}`;
}
