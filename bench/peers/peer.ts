/**
 * What every peer implements, and how its package is loaded.
 *
 * @module
 */
import type { PeerTask } from "../cases/task.ts";
import type { Work } from "../measure/timing.ts";

/** An engine that can be timed. */
export interface Peer extends Disposable {
  /** Name and version. */
  readonly name: string;
  /** @throws {Error} when the engine does not support the task */
  prepare(task: PeerTask): Promise<PeerWork>;
}

/** A task prepared in an engine. */
export interface PeerWork extends Work, Disposable {
  /** Elements of the result in any order, to verify that the work is the same. */
  result(): Promise<Float32Array>;
}

/**
 * Loads a package that only `--peers` needs: named here and not in deno.json, so that nobody else
 * downloads it.
 */
// deno-lint-ignore no-explicit-any
export async function importPackage(specifier: string): Promise<any> {
  return await import(specifier);
}

/**
 * Waits after work on the CPU: an engine's threads keep spinning for a while on the cores that a
 * software device needs.
 */
export function threadsAtRest(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 250));
}
