import { messageText } from "../../safe_text.ts";

/** A file of a sweep is malformed or belongs to another plan, or results are missing. */
export class SweepError extends Error {
  /** The name of the class. */
  override name = "SweepError";
  /** The file that the error is about. */
  readonly path: string;

  /** Keeps the details as fields. */
  constructor(message: string, details: { path: string; cause?: unknown }) {
    super(messageText(message), { cause: details.cause });
    this.path = details.path;
  }
}
