/**
 * Who holds a lock: process, machine and time, noted in the locked file for the message that
 * another run gets.
 *
 * @module
 */

import { disk } from "./disk.ts";
import { textAt } from "./paths.ts";
import type { LockedFile } from "./temporary.ts";

/** The process that holds a lock. */
export interface Holder {
  readonly pid: number;
  /** The name of its machine; undefined where it might not ask for it. */
  readonly host?: string;
  /** When it took the lock, as an ISO date. */
  readonly since: string;
}

/** The machine's name, if this process may ask for it; the user is not prompted. */
function hostname(): string | undefined {
  const isAllowed = Deno.permissions.querySync({ name: "sys", kind: "hostname" }).state === "granted";
  return isAllowed ? Deno.hostname() : undefined;
}

/** Notes in a lock's own file that this process holds it. */
export async function noteHolder({ file, path }: LockedFile): Promise<void> {
  const text = holderText({ pid: Deno.pid, host: hostname(), since: new Date().toISOString() });
  await disk.truncate(file, path, 0); // a dead process may have left its own
  await disk.write(file, path, new TextEncoder().encode(text));
}

/** The holder that is noted at `path`; undefined where there is no whole note. */
export async function holderAt(path: string): Promise<Holder | undefined> {
  const text = await textAt(path).catch(() => undefined) ?? "";
  const [, pid, host, since] = /^process (\d+)(?: on ([^\s\p{C}]{1,255}))? since ([\d:TZ.-]+)$/u.exec(text) ?? [];
  return pid === undefined ? undefined : { pid: Number(pid), host, since };
}

/** "process 4711 on n17 since 2026-11-26T20:00:00.000Z" */
export function holderText({ pid, host, since }: Holder): string {
  return `process ${pid}${host === undefined ? "" : ` on ${host}`} since ${since}`;
}
