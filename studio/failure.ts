/** Turns errors of the library into what a painter reports. @module */

import type { PainterFailure } from "./painter.ts";

/** Error classes that a visitor's input causes, by name: they cross threads without their class. */
const byInput =
  /^(Checkpoint|Config|Safetensors|Path|Adapter|Prompt|Alignment|Edit|Lambda|IllConditioned|Option|Image|Scheduler|Data|NonFinite|Shape)Error$/;
const byDevice = /^(NoAdapter|DeviceLost|Gpu|ActivationRange)Error$/;

/** The failure that an error is. */
export function failureOf(error: unknown): PainterFailure {
  if (!(error instanceof Error)) return { kind: "unexpected", message: String(error) };
  const { name, message } = error;
  if (name === "AbortError") return { kind: "aborted", message: "Stopped" };
  if (byInput.test(name)) return { kind: "input", message };
  if (byDevice.test(name)) return { kind: "device", message };
  return { kind: "unexpected", message: `${name}: ${message}` };
}
