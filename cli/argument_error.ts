/**
 * The arguments do not fit the command: an unknown flag, a missing value, a number out of range.
 */
export class ArgumentError extends RangeError {
  override name = "ArgumentError";
  /** The flag as written, or the argument itself. */
  readonly argument: string;

  constructor(message: string, details: { argument: string; cause?: unknown }) {
    super(message, { cause: details.cause });
    this.argument = details.argument;
  }
}
