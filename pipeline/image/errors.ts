import { messageText } from "../safe_text.ts";

/** A picture or image file cannot be read, drawn or written. */
export class ImageError extends RangeError {
  override name = "ImageError";
  /** The required value, where it is a number. */
  readonly expected?: number;
  /** The value found. */
  readonly actual?: number;

  constructor(message: string, details: { expected?: number; actual?: number; cause?: unknown } = {}) {
    super(messageText(message), { cause: details.cause });
    this.expected = details.expected;
    this.actual = details.actual;
  }
}
