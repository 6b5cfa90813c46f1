/** The operators of one edit: that of the states, and that of the pooled embedding. @module */

import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import type { SavedFactors } from "./edit_file.ts";
import { breathe } from "./breathe.ts";
import { type ConceptMoves, conceptMoves } from "./moves.ts";
import { EditOperator, type OperatorReport } from "./operator.ts";
import type { PreparedEdit } from "./prepare_edit.ts";

/** The equations of an edit, kept to solve them again. */
export type Solvable = Pick<PreparedEdit, "system" | "pooled" | "concepts">;

/** A solved edit: its operator, and that of the pooled embedding. */
export interface Operators {
  readonly operator: EditOperator;
  readonly pooled: EditOperator | undefined;
}

/** Solves the equations for a λ, and measures how far the concepts move. */
export async function solveAll(
  { system, pooled, concepts }: Solvable,
  options: { lamb: number; signal?: AbortSignal },
): Promise<{ operators: Operators; report: OperatorReport & { moves: ConceptMoves; pooled?: OperatorReport } }> {
  using cleanup = new DisposableStack();
  await breathe(options.signal);
  const operator = cleanup.use(await system.solve(options));
  await breathe(options.signal);
  const ofPooled = cleanup.use(await pooled?.solve(options));
  const moves = await conceptMoves(operator, concepts);
  cleanup.move(); // the caller's now
  const report = { ...operator.report!, moves, ...(ofPooled && { pooled: ofPooled.report! }) };
  return { operators: { operator, pooled: ofPooled }, report };
}

/** Frees the operators. */
export function disposeOf({ operator, pooled }: Operators): void {
  operator[Symbol.dispose]();
  pooled?.[Symbol.dispose]();
}

/** An operator on the device. */
export function uploaded(gpu: Gpu, { left, right, rank, width }: SavedFactors): EditOperator {
  return new EditOperator(gpu.scope(() => ({
    left: Tensor.from(gpu, left, [rank, width]),
    right: right && Tensor.from(gpu, right, [rank, width]),
  })));
}

/** The factors of an operator on the host. */
export async function downloaded({ width, rank, factors: { left, right } }: EditOperator): Promise<SavedFactors> {
  const [p, q] = await Promise.all([left.data(), right?.data()]);
  return { width, rank, left: p, right: q };
}
