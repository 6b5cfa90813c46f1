/** The form of an edit in links, in the browser's store and in calls of a server. @module */

import * as v from "valibot";
import { boolean, fields, fromZero, listOf, oneOf, positive, type Schema } from "../pipeline/schema.ts";
import type { EditSpec, PairSpec } from "./painter.ts";

/** Bounds of {@linkcode editSchemaOf}. */
export interface EditBounds {
  /** The form of a source or a preserved prompt. */
  readonly prompt: Schema<string>;
  /** The form of a destination. */
  readonly destination: Schema<string>;
  readonly strength: Schema<number>;
  readonly maxPairs: number;
  readonly maxPreserved: number;
}

/** The schema of an edit. λ may be 0 in a null space only. */
export function editSchemaOf(bounds: EditBounds): Schema<EditSpec> {
  const { prompt, destination, strength, maxPairs, maxPreserved } = bounds;
  const pair: Schema<PairSpec> = fields({ source: prompt, destination });
  const schema = (lambda: Schema<number>): Schema<EditSpec> =>
    fields({
      pairs: listOf(pair, { min: 1, max: maxPairs }),
      lambda,
      strength,
      withToK: boolean(),
      enabled: boolean(),
      preserve: listOf(prompt, { max: maxPreserved }),
      method: v.optional(oneOf("uce", "nullspace")),
      eraseScale: v.optional(positive()),
      preserveScale: v.optional(positive()),
      threshold: v.optional(positive()),
      withPooled: v.optional(boolean()),
    });
  const [common, nullSpace] = [schema(positive()), schema(fromZero())];
  return v.lazy((edit) => (edit as Partial<EditSpec> | null)?.method === "nullspace" ? nullSpace : common);
}
