/**
 * Deno's permissions: what a path is needed for, and one message where a permission is missing.
 *
 * @module
 */

/** Why a command reads or writes the path that a flag names. */
export interface Access {
  /** What is done with the path. */
  readonly kind: "read" | "write";
  /** Completes "to …": "read the model". */
  readonly purpose: string;
}

/** A permission of Deno is missing. */
export class PermissionError extends Error {
  override name = "PermissionError";
  /** The permission's name: "read", "write", "net". */
  readonly permission: string;

  constructor(message: string, details: { permission: string; cause?: unknown }) {
    super(message, { cause: details.cause });
    this.permission = details.permission;
  }
}

/**
 * Asks for access to a path, where it is not granted yet; Deno prompts on a terminal.
 *
 * @throws {PermissionError} where it is denied
 */
export function requireAccess(path: string, access: Access): void {
  const { kind, purpose } = access;
  if (Deno.permissions.requestSync({ name: kind, path }).state === "granted") return;
  throw missing(kind, JSON.stringify(path), `to ${purpose}`);
}

/**
 * Asks for the permission to listen on an address.
 *
 * @throws {PermissionError} where it is denied
 */
export function requireListening(host: string, purpose: string): void {
  if (Deno.permissions.requestSync({ name: "net", host }).state === "granted") return;
  throw missing("net", JSON.stringify(host), `to ${purpose}`);
}

/** The error for Deno's own, which names the missing permission; undefined for all others. */
export function permissionError(error: unknown): PermissionError | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (!(cause instanceof Deno.errors.NotCapable)) continue;
    const [, permission = "all", subject = ""] = /^Requires (\w+) access(?: to (.*?))?,/.exec(cause.message) ?? [];
    return missing(permission, subject, purposes[permission] ?? "for this command", cause);
  }
  return undefined;
}

/** What each permission is for, where no flag says so. */
const purposes: Readonly<Record<string, string>> = {
  read: "to read models and pictures, and to see which files exist",
  write: "to write pictures, edits and models",
  net: "to download models from the Hugging Face hub; --offline uses the cache only",
  env: "to find the user's caches and the settings in the environment",
  sys: "to tell the machine that it measures",
  run: "to start the programs that it measures",
  ffi: "to load a WebGPU implementation",
};

function missing(permission: string, subject: string, purpose: string, cause?: unknown): PermissionError {
  if (permission === "all") {
    return new PermissionError(
      `Cannot use ${subject}: Deno lets only programs with --allow-all touch such paths. Choose another place`,
      { permission, cause },
    );
  }
  const access = `permission "${permission}"${subject === "" ? "" : ` for ${subject}`}`;
  return new PermissionError(
    `Cannot go on without Deno's ${access}: it is needed ${purpose}. ` +
      `Run deno with --allow-${permission}, or use "deno task bluerose", which grants what the command line needs`,
    { permission, cause },
  );
}
