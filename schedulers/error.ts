import { messageText } from "../pipeline/safe_text.ts";

/**
 * A step count, timestep or configuration value is out of range.
 *
 * The message names the action, the requirement and the value. {@linkcode details} holds the
 * values.
 */
export class SchedulerError extends RangeError {
  /** The class's name, for messages and for realms where `instanceof` fails. */
  override readonly name = "SchedulerError";
  /** The values in the message. */
  readonly details: Readonly<Record<string, unknown>>;

  /** Makes an error with the values of its message. */
  constructor(message: string, details: Record<string, unknown> = {}) {
    super(messageText(message));
    this.details = details;
  }
}
