/** Measures how far an edit moves concepts. @module */

import { Tensor } from "../../engine/tensor.ts";
import type { EditOperator } from "./operator.ts";

/** How far an edit moves the last subject token of a prompt. */
export interface ConceptMove {
  /** The prompt. */
  readonly prompt: string;
  /** ‖(E − I)c‖ / ‖c‖ of the token's embedding c. */
  readonly moved: number;
}

/** How far an edit moves the concepts that it was solved from. */
export interface ConceptMoves {
  /** Each source prompt. */
  readonly erased: readonly ConceptMove[];
  /** The preserved prompt that moves most, relative to its length; undefined without any. */
  readonly mostMovedRetained?: ConceptMove;
}

/** A concept's prompt and its embedding [width]. */
export interface Concept {
  readonly prompt: string;
  readonly state: Float32Array;
}

/** Measures the moves of an operator. */
export async function conceptMoves(
  operator: EditOperator,
  concepts: { readonly erased: readonly Concept[]; readonly retained: readonly Concept[] },
): Promise<ConceptMoves> {
  const { gpu, width } = operator;
  const all = [...concepts.erased, ...concepts.retained];
  const rows = new Float32Array(all.length * width);
  all.forEach(({ state }, i) => rows.set(state, i * width));
  using change = gpu.scope(() => operator.change(Tensor.from(gpu, rows, [all.length, width])));
  const changes = await change.data();
  const moves = all.map(({ prompt, state }, i): ConceptMove => {
    const length = norm(state);
    return { prompt, moved: length > 0 ? norm(changes.subarray(i * width, (i + 1) * width)) / length : 0 };
  });
  const retained = moves.slice(concepts.erased.length);
  return {
    erased: moves.slice(0, concepts.erased.length),
    ...(retained.length > 0
      ? { mostMovedRetained: retained.reduce((most, move) => move.moved > most.moved ? move : most) }
      : {}),
  };
}

/** The moves of several operators: each concept's largest one. */
export function largestMoves(all: readonly ConceptMoves[]): ConceptMoves {
  const larger = (a: ConceptMove, b: ConceptMove) => b.moved > a.moved ? b : a;
  const retained = all.flatMap(({ mostMovedRetained }) => mostMovedRetained ?? []);
  return {
    erased: all[0].erased.map((_, i) => all.map(({ erased }) => erased[i]).reduce(larger)),
    ...(retained.length > 0 ? { mostMovedRetained: retained.reduce(larger) } : {}),
  };
}

function norm(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
  return Math.sqrt(sum);
}
