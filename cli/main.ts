/**
 * The command line, `bluerose`: finds the command and runs it. One command a file; each declares
 * its own flags and help.
 *
 * @module
 */
import { ArgumentError } from "./arguments.ts";
import type { Command } from "./command.ts";
import { nearest } from "./nearest.ts";

/** A line of the table of commands. */
export interface CommandEntry {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Loads the command's file, which exports it as `command`. */
  readonly load: () => Promise<{ readonly command: Command }>;
}

/**
 * All commands, in the order of the help. They load when called, so that the help comes at once.
 */
const commands: readonly CommandEntry[] = [
  { name: "demo", summary: "edit the embedded model and look at it before and after", load: () => import("./demo.ts") },
  { name: "generate", summary: "draw pictures of prompts", load: () => import("./generate.ts") },
  {
    name: "edit",
    summary: "edit a model and look at it before and after; keep the edit",
    load: () => import("./edit.ts"),
  },
  { name: "score", summary: "say which prompt fits a picture best", load: () => import("./score.ts") },
  {
    name: "inspect",
    summary: "say what a model is, what it holds, and why it would not load",
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
 * Runs the command line and says how it ended: 0 only where the work was done, 1 where it failed, 2
 * where the arguments were wrong.
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
    const advice = meant === undefined ? "bluerose --help lists those that are" : `did you mean bluerose ${meant}?`;
    console.error(`bluerose: Cannot run "${wanted}" as it is no command: ${advice}`);
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
    console.error(`bluerose ${entry.name}: ${told(error)}`);
    return exitCodes.failed;
  }
}

function help(table: readonly CommandEntry[]): string {
  const width = Math.max(0, ...table.map(({ name }) => name.length));
  return [
    "Blue Rose edits what a text-to-image model takes for granted, and draws with the edited model.",
    "",
    'A model that is asked for roses draws red ones. An edit from "a pack of roses" to "a pack of blue roses" changes',
    "that, for every prompt with roses in it and for hardly any other; it takes milliseconds and no training.",
    "",
    "Usage: bluerose COMMAND [flags]",
    "",
    "Commands:",
    ...table.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    "bluerose COMMAND --help shows a command's flags, with examples to copy.",
  ].join("\n");
}

/**
 * An expected error's message says all; of an unexpected one (no class of ours), the stack helps
 * whoever reports it.
 */
function told(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const isUnexpected = ["Error", "TypeError", "ReferenceError", "RangeError", "SyntaxError"].includes(error.name);
  return isUnexpected || Deno.env.has("BLUEROSE_TRACE")
    ? error.stack ?? error.message
    : `${error.name}: ${error.message}`;
}

async function version(): Promise<string> {
  const { default: config } = await import("../deno.json", { with: { type: "json" } });
  return `bluerose ${config.version}, Deno ${Deno.version.deno}`;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
