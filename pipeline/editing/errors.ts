/**
 * Errors of solving an edit, with the values behind the message as fields.
 *
 * @module
 */

import { EditError } from "../errors.ts";

/**
 * The tokens of two prompts cannot be aligned: the source is not a subsequence of the destination.
 */
export class AlignmentError extends EditError {
  /** The name of the class. */
  override name = "AlignmentError";
  /** The tokens of the source prompt, as text. */
  readonly sourceTokens: readonly string[];
  /** The tokens of the destination prompt, as text. */
  readonly destinationTokens: readonly string[];
  /** Position of the first source token without a destination token. */
  readonly position: number;

  /** Keeps the details as fields. */
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

/** The largest λ that is taken. Far below it already, an edit changes nothing. */
export const largestLambda = 1e100;

/** λ is not above 0 (null-space edits: from 0), or is too large for the solver's arithmetic. */
export class LambdaError extends EditError {
  /** The name of the class. */
  override name = "LambdaError";
  /** The λ that was given. */
  readonly lamb: number;

  /** Makes the message from λ. A method may allow 0. */
  constructor(lamb: number, { allowsZero = false }: { allowsZero?: boolean } = {}) {
    const required = allowsZero ? "from 0" : "above 0, such as 0.1 as in the paper";
    super(
      `Cannot edit with lambda ${lamb}: it must be a finite number ${required}` +
        (lamb > largestLambda ? `, and at most ${largestLambda}; the larger it is, the less the edit changes` : ""),
    );
    this.lamb = lamb;
  }
}

/**
 * The system is too ill-conditioned for the solver's arithmetic: λ is too small, or some rows weigh
 * too much.
 */
export class IllConditionedError extends EditError {
  /** The name of the class. */
  override name = "IllConditionedError";
  /** The λ that was given. */
  readonly lamb: number;
  /** The smallest round λ that makes the system well-conditioned. */
  readonly proposedLamb: number;
  /**
   * The round factor by which the largest weights must be divided; present where `proposedLamb`
   * would suppress the edit of lighter rows.
   */
  readonly weightFactor?: number;
  /** Order of the linear system. */
  readonly size: number;
  /** The first Cholesky pivot that is not positive, if there is one. */
  readonly pivot?: { readonly index: number; readonly value: number };
  /** Estimated condition number, if the factorization succeeded. */
  readonly conditionEstimate?: number;

  /** Keeps the details as fields. */
  constructor(
    message: string,
    details: {
      lamb: number;
      proposedLamb: number;
      weightFactor?: number;
      size: number;
      pivot?: { index: number; value: number };
      conditionEstimate?: number;
    },
  ) {
    super(message);
    this.lamb = details.lamb;
    this.proposedLamb = details.proposedLamb;
    this.weightFactor = details.weightFactor;
    this.size = details.size;
    this.pivot = details.pivot;
    this.conditionEstimate = details.conditionEstimate;
  }
}
