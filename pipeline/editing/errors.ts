/** The ways in which an edit can fail, each with its numbers. */

import { EditError } from "../errors.ts";

/**
 * Two prompts whose tokens cannot be aligned: the source is not a subsequence of the destination.
 */
export class AlignmentError extends EditError {
  override name = "AlignmentError";
  /** The prompts' tokens as texts, in order. */
  readonly sourceTokens: readonly string[];
  readonly destinationTokens: readonly string[];
  /** Position of the source token without a partner. */
  readonly position: number;

  constructor(
    message: string,
    details: { sourceTokens: readonly string[]; destinationTokens: readonly string[]; position: number },
  ) {
    super(message);
    this.sourceTokens = details.sourceTokens;
    this.destinationTokens = details.destinationTokens;
    this.position = details.position;
  }
}

/** A λ that cannot be used: not a positive number. */
export class LambdaError extends EditError {
  override name = "LambdaError";
  readonly lamb: number;

  constructor(lamb: number) {
    super(
      `Cannot edit with lambda ${lamb} as it must be a finite number above 0: it is what keeps the system solvable (0.1 is the paper's)`,
    );
    this.lamb = lamb;
  }
}

/**
 * A system that the arithmetic at hand cannot solve: λ is too small beside the embeddings' size.
 */
export class IllConditionedError extends EditError {
  override name = "IllConditionedError";
  readonly lamb: number;
  /** A λ that would do. */
  readonly proposedLamb: number;
  /** Order of the system that failed. */
  readonly size: number;
  /** Where the factorization broke down, if it did: the pivot's index and value. */
  readonly pivot?: { readonly index: number; readonly value: number };
  /** Estimated condition number, if there is one. */
  readonly conditionEstimate?: number;

  constructor(
    message: string,
    details: {
      lamb: number;
      proposedLamb: number;
      size: number;
      pivot?: { index: number; value: number };
      conditionEstimate?: number;
    },
  ) {
    super(message);
    this.lamb = details.lamb;
    this.proposedLamb = details.proposedLamb;
    this.size = details.size;
    this.pivot = details.pivot;
    this.conditionEstimate = details.conditionEstimate;
  }
}
