/** Turns errors of the library into what a painter reports. @module */

import { GpuError, ShapeError } from "../engine/errors.ts";
import { TuningError } from "../kernels/tuning.ts";
import {
  ActivationRangeError,
  CheckpointError,
  DataError,
  EditError,
  NonFiniteError,
  OptionError,
  PromptError,
} from "../pipeline/errors.ts";
import { ImageError } from "../pipeline/image/errors.ts";
import { SchedulerError } from "../schedulers/mod.ts";
import { PainterError, type PainterFailure } from "./painter.ts";

/** Errors that a visitor's input causes: a file, a prompt, a setting. */
const byInput = [
  ActivationRangeError,
  CheckpointError,
  DataError,
  EditError,
  ImageError,
  NonFiniteError,
  OptionError,
  PromptError,
  SchedulerError,
  ShapeError,
];

/** Longer quotations are shortened: a page has little room, and what they quote is on it. */
const longestQuotation = 80;

/** A message with its long quotations, such as of prompts, shortened in their middle. */
export function withShortQuotations(message: string): string {
  return message.replace(/"((?:[^"\\]|\\.)*)"/g, (quotation, text: string) => {
    const characters = [...text];
    if (characters.length <= longestQuotation) return quotation;
    const half = longestQuotation / 2;
    return `"${characters.slice(0, half).join("")} … ${characters.slice(-half).join("")}"`;
  });
}

/** The failure that an error is. */
export function failureOf(error: unknown): PainterFailure {
  if (error instanceof PainterError) return error.failure;
  const { kind, message } = rawFailureOf(error);
  return { kind, message: withShortQuotations(message) };
}

function rawFailureOf(error: unknown): PainterFailure {
  if (!(error instanceof Error)) return { kind: "unexpected", message: String(error) };
  const { name, message } = error;
  if (name === "AbortError") return { kind: "aborted", message: "Stopped" };
  // What fetch() throws where a server cannot be reached is a TypeError.
  if (error instanceof CheckpointError && error.cause instanceof TypeError) return { kind: "network", message };
  if (byInput.some((type) => error instanceof type)) return { kind: "input", message };
  if (error instanceof GpuError || error instanceof TuningError) return { kind: "device", message };
  return { kind: "unexpected", message: `${name}: ${message}` };
}

/** Runs `body`; its errors become those of a painter. */
export async function failing<T>(body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw error instanceof PainterError ? error : new PainterError(failureOf(error), { cause: error });
  }
}

/** The error of what was stopped. */
export function aborted(): PainterError {
  return new PainterError({ kind: "aborted", message: "Stopped" });
}
