/**
 * The command line, `bluerose`: finds a command and runs it. Each command is a file that declares
 * its flags and help.
 *
 * @module
 */
import { ArgumentError } from "./arguments.ts";
import type { Command } from "./command.ts";

export type { Command } from "./command.ts";
import { environmentVariable } from "./environment.ts";
import { nearest } from "./nearest.ts";

/** An entry of the command table. */
export interface CommandEntry {
  /** The command's name on the command line. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Loads the command's file, which exports it as `command`. */
  readonly load: () => Promise<{ readonly command: Command }>;
}

/**
 * All commands, in the order of the help. They are loaded when called, so that the help prints
 * without loading them.
 */
const commands: readonly CommandEntry[] = [
  { name: "demo", summary: "edit the embedded model and draw before and after", load: () => import("./demo.ts") },
  { name: "generate", summary: "draw pictures from prompts", load: () => import("./generate.ts") },
  {
    name: "edit",
    summary: "edit a model, draw before and after, and save the edit",
    load: () => import("./edit.ts"),
  },
  { name: "score", summary: "rank prompts by how well they fit a picture", load: () => import("./score.ts") },
  {
    name: "inspect",
    summary: "describe a model file or folder, and list what keeps it from loading",
    load: () => import("./inspect.ts"),
  },
  {
    name: "sweep",
    summary: "evaluate edits on a data set such as TIMED, in shards that can be resumed",
    load: () => import("./sweep.ts"),
  },
  {
    name: "evaluate",
    summary: "judge edits by the pictures that the edited model draws",
    load: () => import("./evaluate.ts"),
  },
  {
    name: "bench",
    summary: "measure kernels against the device's ceiling, and drawing and editing end to end",
    load: () => import("./bench.ts"),
  },
];

const exitCodes = { done: 0, failed: 1, misused: 2, interrupted: 130 };

/**
 * Runs the command line. Returns the exit code: 0 for success, 1 for failure, 2 for wrong
 * arguments, 130 when interrupted.
 */
export async function main(args: readonly string[], table: readonly CommandEntry[] = commands): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h" || (name === "help" && rest.length === 0)) {
    console.log(help(table));
    return name === undefined ? exitCodes.misused : exitCodes.done;
  }
  if (name === "--version" || name === "-v") {
    console.log(await version());
    return exitCodes.done;
  }
  const wanted = name === "help" ? rest[0] : name;
  const entry = table.find((each) => each.name === wanted);
  if (entry === undefined) {
    const meant = nearest(wanted, table.map((each) => each.name));
    const advice = meant === undefined ? "bluerose --help lists the commands" : `did you mean bluerose ${meant}?`;
    console.error(`bluerose: Cannot run "${wanted}" as there is no such command: ${advice}`);
    return exitCodes.misused;
  }
  try {
    const { command } = await entry.load();
    await command.call(name === "help" ? ["--help"] : rest);
    return exitCodes.done;
  } catch (error) {
    if (error instanceof ArgumentError) {
      console.error(`bluerose ${entry.name}: ${error.message}\nbluerose ${entry.name} --help shows all flags.`);
      return exitCodes.misused;
    }
    if (error instanceof DOMException && error.name === "AbortError") {
      console.error(`bluerose ${entry.name}: interrupted`);
      return exitCodes.interrupted;
    }
    console.error(`bluerose ${entry.name}: ${errorText(error)}`);
    return exitCodes.failed;
  }
}

function help(table: readonly CommandEntry[]): string {
  const width = Math.max(0, ...table.map(({ name }) => name.length));
  return [
    "Blue Rose edits the implicit assumptions of a text-to-image model, and draws with the edited model.",
    "",
    'Asked for roses, a model draws red ones. An edit from "a pack of roses" to "a pack of blue roses" changes that for',
    "all prompts with roses and leaves other prompts nearly unchanged. It takes milliseconds and no training.",
    "",
    "Usage: bluerose COMMAND [flags]",
    "",
    "Commands:",
    ...table.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    "bluerose COMMAND --help shows the flags of a command, with examples.",
  ].join("\n");
}

/**
 * The text for an error: the message of this library's own error classes, the stack of all others.
 * BLUEROSE_TRACE shows the stack always.
 */
function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const isUnexpected = ["Error", "TypeError", "ReferenceError", "RangeError", "SyntaxError"].includes(error.name);
  return isUnexpected || environmentVariable("BLUEROSE_TRACE") !== undefined
    ? error.stack ?? error.message
    : `${error.name}: ${error.message}`;
}

async function version(): Promise<string> {
  const { default: config } = await import("../deno.json", { with: { type: "json" } });
  return `bluerose ${config.version}, Deno ${Deno.version.deno}`;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
