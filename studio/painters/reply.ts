/**
 * What crosses a thread or a network in place of a painter's result: its value, or its failure.
 *
 * @module
 */

import { failureOf } from "../failure.ts";
import { PainterError, type PainterFailure } from "../painter.ts";

/** The outcome of a call. */
export type Reply = { readonly value: unknown } | { readonly failure: PainterFailure };

/** Runs a call; its error becomes a failure. */
export async function replyOf(call: () => Promise<unknown>): Promise<Reply> {
  try {
    return { value: await call() };
  } catch (error) {
    return { failure: failureOf(error) };
  }
}

/** @throws {PainterError} for a failure */
export function valueOf(reply: Reply): unknown {
  if ("failure" in reply) throw new PainterError(reply.failure);
  return reply.value;
}
