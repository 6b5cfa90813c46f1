/** A picture, or a file that should hold one, that cannot be read, drawn or written. */
export class ImageError extends RangeError {
  override name = "ImageError";
  /** What the action asks for, where it is a number. */
  readonly expected?: number;
  /** What was found instead. */
  readonly actual?: number;

  constructor(message: string, details: { expected?: number; actual?: number; cause?: unknown } = {}) {
    super(message, { cause: details.cause });
    this.expected = details.expected;
    this.actual = details.actual;
  }
}
