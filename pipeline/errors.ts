/**
 * The errors of the pipeline. Each says the action, the requirement and the value, and carries the
 * numbers as fields, so that a program can act on what a person reads.
 */

/** A checkpoint, or a part of one, is missing, incomplete or of a kind that cannot be loaded. */
export class CheckpointError extends Error {
  override name = "CheckpointError";
  /** The file or folder that the error is about. */
  readonly source: string;

  constructor(message: string, details: { source: string; cause?: unknown }) {
    super(message, { cause: details.cause });
    this.source = details.source;
  }
}

/** A path that would leave the folder it belongs to: absolute, or climbing with `..`. */
export class PathError extends CheckpointError {
  override name = "PathError";
  /** The path as it was given. */
  readonly path: string;

  constructor(message: string, details: { source: string; path: string }) {
    super(message, details);
    this.path = details.path;
  }
}

/**
 * A file breaks a rule of the safetensors format, or a tensor was asked for that it does not hold.
 */
export class SafetensorsError extends CheckpointError {
  override name = "SafetensorsError";
  /** The tensor that the error is about, where it is about one. */
  readonly tensor?: string;
  /** What the format asks for, where it is a number. */
  readonly expected?: number;
  /** What the file says instead. */
  readonly actual?: number;

  constructor(
    message: string,
    details: { source: string; tensor?: string; expected?: number; actual?: number; cause?: unknown },
  ) {
    super(message, details);
    this.tensor = details.tensor;
    this.expected = details.expected;
    this.actual = details.actual;
  }
}

/**
 * A configuration file asks for something that Blue Rose does not do, or is not what its class
 * expects.
 */
export class ConfigError extends CheckpointError {
  override name = "ConfigError";
  /** The key of the JSON file. */
  readonly key: string;
  /** The value that was found there; `undefined` where the key is missing. */
  readonly value: unknown;

  constructor(message: string, details: { source: string; key: string; value: unknown }) {
    super(message, details);
    this.key = details.key;
    this.value = details.value;
  }
}

/** A model hub refused, failed or lied, or a file is wanted from its cache that is not there. */
export class HubError extends CheckpointError {
  override name = "HubError";
  /** The HTTP status that the hub answered with, where it answered. */
  readonly status?: number;

  constructor(message: string, details: { source: string; status?: number; cause?: unknown }) {
    super(message, details);
    this.status = details.status;
  }
}

/** A LoRA or a textual inversion that is none, or does not fit the model. */
export class AdapterError extends CheckpointError {
  override name = "AdapterError";
  /** The keys of the file that the error is about. */
  readonly keys: readonly string[];

  constructor(message: string, details: { source: string; keys: readonly string[]; cause?: unknown }) {
    super(message, details);
    this.keys = details.keys;
  }
}

/** A prompt, a token or a token id that the tokenizer cannot take. */
export class PromptError extends RangeError {
  override name = "PromptError";
}

/**
 * A picture that cannot be drawn with activations in f16, as some number of the UNet lies beyond
 * their range.
 */
export class ActivationRangeError extends RangeError {
  override name = "ActivationRangeError";
  /** The largest number that f16 holds. */
  readonly limit = 65504;
}

/**
 * An edit that cannot be made: no alignment of the prompts, no layer to edit, a system that cannot
 * be solved.
 */
export class EditError extends Error {
  override name = "EditError";
}
