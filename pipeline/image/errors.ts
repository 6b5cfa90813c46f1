import { messageText } from "../safe_text.ts";
import { shown } from "../shown.ts";

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

/** @throws {ImageError} if the content of a file is given as anything but bytes */
export function checkBytes(bytes: unknown): asserts bytes is Uint8Array {
  if (!(bytes instanceof Uint8Array)) {
    throw new ImageError(`Cannot read a picture as its file must be a Uint8Array: ${shown(bytes)}`);
  }
}
