/**
 * What is printed when a command fails. Needs no permission.
 *
 * @module
 */
import { environmentVariable } from "../pipeline/environment.ts";
import { inFlags } from "./option_flags.ts";
import { permissionError } from "./permissions.ts";
import { versionLine } from "./version.ts";

let device: string | undefined;

/** Keeps the name of the device that is in use, for the report of an unexpected error. */
export function rememberDevice(name: string): void {
  device = name;
}

/** Classes of the language itself; the errors that this project means to throw have their own. */
const builtIn = ["Error", "TypeError", "ReferenceError", "RangeError", "SyntaxError", "URIError", "EvalError"];

/**
 * The text for an error. This project's own errors and the system's are told by their message; all
 * others are faults of this program and give a short report. BLUEROSE_TRACE adds the stack.
 *
 * @param command the command line, as far as it may be shown: the command's name
 */
export function failureText(error: unknown, command: string): string {
  const shown = permissionError(error) ?? error;
  if (!(shown instanceof Error)) return String(shown);
  const isTraced = environmentVariable("BLUEROSE_TRACE") !== undefined;
  const trace = isTraced ? `\n${shown.stack ?? ""}${causes(shown)}` : "";
  if (!isUnexpected(shown)) {
    // The names of the language's own classes say nothing to a user.
    const name = builtIn.includes(shown.name) ? "" : `${shown.name}: `;
    return `${name}${inFlags(shown.message)}${trace}`;
  }
  return [
    `Unexpected error: ${shown.name}: ${shown.message}`,
    "This is a fault of Blue Rose, not of the command. Please report it to the project with these lines:",
    `  command   ${command}`,
    `  version   ${versionLine()}`,
    `  device    ${device ?? "none opened"}`,
    `  place     ${placeOf(shown) ?? "unknown"}`,
    ...(isTraced ? [] : ["BLUEROSE_TRACE=1 prints the stack."]),
  ].join("\n") + trace;
}

/** How V8 words its own errors, which begin like this project's. */
const wordedByV8 =
  /^Cannot (read|set|access|convert|mix|destructure|assign|define|delete|create prop|redefine|add prop|use 'in')/;

/** Whether an error is of no class that this project or Deno's system calls throw on purpose. */
function isUnexpected({ name, message }: Error): boolean {
  // Option checks of the library throw plain RangeErrors; their messages say what to do.
  return builtIn.includes(name) && (!message.startsWith("Cannot ") || wordedByV8.test(message));
}

/** The innermost place of the stack, without the folder that the program lies in. */
function placeOf({ stack }: Error): string | undefined {
  const frame = stack?.split("\n").find((line) => /^\s+at .*:\d+:\d+\)?$/.test(line));
  const root = import.meta.url.slice(0, import.meta.url.lastIndexOf("/cli/") + 1);
  return frame?.trim().replace(/^at /, "").replaceAll(root, "").replaceAll("file://", "");
}

function causes(error: Error): string {
  const lines: string[] = [];
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    lines.push(`\nCaused by ${cause.stack ?? cause.message}`);
  }
  return lines.join("");
}
