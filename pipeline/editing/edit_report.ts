/** What is known of an edit once it is solved. */

import type { LayerReport } from "./edit_operators.ts";
import type { ConceptMoves } from "./moves.ts";
import type { OperatorReport } from "./operator.ts";
import type { RetainedReport } from "./prepare_edit.ts";
import type { Alignment } from "./prompts/alignment.ts";
import type { EditMethod } from "./prompts/method.ts";

/** The solver's report, with the alignment of the prompts and the edited layers. */
export interface EditReport extends OperatorReport {
  /** Token alignment of each sentence; empty for a loaded edit. */
  readonly alignments: readonly Alignment[];
  /** Paths of the edited layers. */
  readonly layers: readonly string[];
  /**
   * The report on each operator, of an edit with several. The figures beside it are then the worst
   * of all operators, and the sum of their times.
   */
  readonly byLayer?: readonly LayerReport[];
  /** The editor. */
  readonly method: EditMethod;
  /** How far the concepts move; undefined for an edit that was loaded from a file without it. */
  readonly moves?: ConceptMoves;
  /** The null space and the prompts that were not retained, of a null-space edit. */
  readonly nullSpace?: RetainedReport;
  /** The solver's report on the pooled embedding, of an edit `withPooled`. */
  readonly pooled?: OperatorReport;
}
