/**
 * The errors of the pipeline. A message states what failed, what was required and what was found.
 * The same values are fields of the error, for programs. Messages are safe to print: secrets of
 * addresses are hidden, and control characters of strangers' files are escaped.
 *
 * @module
 */

import { messageText } from "./safe_text.ts";

/** A checkpoint, or a part of it, is missing, incomplete or not supported. */
export class CheckpointError extends Error {
  /** The name of the class. */
  override name = "CheckpointError";
  /** The file, folder or address that the error is about; without passwords. */
  readonly source: string;

  /** Keeps the details as fields. */
  constructor(message: string, details: { source: string; cause?: unknown }) {
    super(messageText(message), { cause: details.cause });
    this.source = messageText(details.source);
  }
}

/** A file or folder cannot be written. The message says why and what to do. */
export class OutputError extends Error {
  /** The name of the class. */
  override name = "OutputError";
  /** The file or folder, as it was given. */
  readonly path: string;

  /** Keeps the details as fields. */
  constructor(message: string, details: { path: string; cause?: unknown }) {
    super(messageText(message), { cause: details.cause });
    this.path = details.path;
  }
}

/** A path is absolute or contains `..`, so that it could leave its folder. */
export class PathError extends CheckpointError {
  /** The name of the class. */
  override name = "PathError";
  /** The path as it was given. */
  readonly path: string;

  /** Keeps the details as fields. */
  constructor(message: string, details: { source: string; path: string }) {
    super(message, details);
    this.path = details.path;
  }
}

/**
 * A file violates the safetensors format, or a requested tensor is not in it.
 */
export class SafetensorsError extends CheckpointError {
  /** The name of the class. */
  override name = "SafetensorsError";
  /** The tensor that the error is about, if any. */
  readonly tensor?: string;
  /** The required value, where it is a number. */
  readonly expected?: number;
  /** The value found. */
  readonly actual?: number;

  /** Keeps the details as fields. */
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
 * A configuration file requests an unsupported feature, or has a key of the wrong type.
 */
export class ConfigError extends CheckpointError {
  /** The name of the class. */
  override name = "ConfigError";
  /** The key of the JSON file. */
  readonly key: string;
  /** The value of the key; `undefined` if the key is missing. */
  readonly value: unknown;

  /** Keeps the details as fields. */
  constructor(message: string, details: { source: string; key: string; value: unknown }) {
    super(message, details);
    this.key = details.key;
    this.value = details.value;
  }
}

/** A request to a model hub failed, its data did not match, or the cache lacks a file. */
export class HubError extends CheckpointError {
  /** The name of the class. */
  override name = "HubError";
  /** HTTP status of the hub's response, if there was one. */
  readonly status?: number;

  /** Keeps the details as fields. */
  constructor(message: string, details: { source: string; status?: number; cause?: unknown }) {
    super(message, details);
    this.status = details.status;
  }
}

/** A file is not a LoRA or textual inversion, or does not fit the model. */
export class AdapterError extends CheckpointError {
  /** The name of the class. */
  override name = "AdapterError";
  /** The keys of the file that the error is about. */
  readonly keys: readonly string[];

  /** Keeps the details as fields. */
  constructor(message: string, details: { source: string; keys: readonly string[]; cause?: unknown }) {
    super(message, details);
    this.keys = details.keys;
  }
}

/** A data file (a list of pairs or test cases) does not have the required form. */
export class DataError extends Error {
  /** The name of the class. */
  override name = "DataError";
  /** The file that the error is about. */
  readonly source: string;

  /** Keeps the details as fields. */
  constructor(message: string, details: { source: string; cause?: unknown }) {
    super(messageText(message), { cause: details.cause });
    this.source = details.source;
  }
}

/** The tokenizer cannot process a prompt, token or token id. */
export class PromptError extends RangeError {
  /** The name of the class. */
  override name = "PromptError";

  /** Makes the error. */
  constructor(message: string) {
    super(messageText(message));
  }
}

/** An option that does not exist, or a value of the wrong kind. */
export class OptionError extends RangeError {
  /** The name of the class. */
  override name = "OptionError";
  /** The option's name as it was given. */
  readonly option: string;
  /** The value that was given. */
  readonly value: unknown;

  /** Keeps the details as fields. */
  constructor(message: string, details: { option: string; value: unknown }) {
    super(messageText(message));
    this.option = details.option;
    this.value = details.value;
  }
}

/** Values that must be finite numbers hold NaN or infinities. */
export class NonFiniteError extends RangeError {
  /** The name of the class. */
  override name = "NonFiniteError";
  /** The denoising step, from 0, after which they were found; undefined outside the loop. */
  readonly step: number | undefined;

  /** Keeps the details as fields. */
  constructor(message: string, details: { step?: number } = {}) {
    super(messageText(message));
    this.step = details.step;
  }
}

/**
 * The UNet's activations exceeded the range of f16.
 */
export class ActivationRangeError extends RangeError {
  /** The name of the class. */
  override name = "ActivationRangeError";
  /** The largest finite f16 value. */
  readonly limit = 65504;
}

/**
 * An edit failed: the prompts do not align, the model has no layer to edit, or the system is not
 * solvable.
 */
export class EditError extends Error {
  /** The name of the class. */
  override name = "EditError";

  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super(messageText(message), options);
  }
}
