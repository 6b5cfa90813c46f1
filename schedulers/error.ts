/**
 * A scheduler was asked for something that it cannot do: a step count, timestep or configuration
 * value out of range.
 *
 * The message names the action, the requirement and the value; {@linkcode details} carries the
 * values themselves.
 */
export class SchedulerError extends RangeError {
  /** The class's name, for messages and for realms where `instanceof` fails. */
  override readonly name = "SchedulerError";
  /** The values that the message speaks of. */
  readonly details: Readonly<Record<string, unknown>>;

  /** An error with its message and the values that it speaks of. */
  constructor(message: string, details: Record<string, unknown> = {}) {
    super(message);
    this.details = details;
  }
}
