/**
 * The command line, `bluerose`: finds a command and runs it. Each command is a file that declares
 * its flags and help.
 *
 * @module
 */
import type { CommandEntry } from "./command.ts";
import { twoColumns } from "./help.ts";
import { nearest } from "./nearest.ts";
import { complain, print } from "./printer.ts";
import { exitCodes, runCommand } from "./run_command.ts";
import { terminalWidth, wrap } from "./terminal.ts";
import { versionLine } from "./version.ts";
import { enterUsersFolder } from "./working_folder.ts";

export type { Command, CommandEntry } from "./command.ts";
export type { Access } from "./permissions.ts";
export type {
  Flag,
  FlagBase,
  Flags,
  NumberFlag,
  PairFlag,
  SeedFlag,
  SwitchFlag,
  TextFlag,
  TextsFlag,
} from "./flag_types.ts";

/**
 * All commands, in the order of the help. They are loaded when called, so that the help prints
 * without loading them.
 */
export const commandTable: readonly CommandEntry[] = [
  { name: "demo", summary: "edit the embedded model and draw before and after", load: () => import("./demo.ts") },
  { name: "generate", summary: "draw pictures from prompts", load: () => import("./generate.ts") },
  {
    name: "edit",
    summary: "edit a model, draw before and after, and save the edit",
    load: () => import("./edit.ts"),
  },
  {
    name: "studio",
    summary: "open a page on which edits are made and seen at once",
    load: () => import("./studio.ts"),
  },
  { name: "xy", summary: "draw one prompt over two settings, as a labeled grid", load: () => import("./xy.ts") },
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
    name: "debias",
    summary: "find an edit under which pictures show several things as often as wanted",
    load: () => import("./debias.ts"),
  },
  {
    name: "doctor",
    summary: "check that this machine's GPU computes correctly, and how fast",
    load: () => import("./doctor.ts"),
  },
  {
    name: "bench",
    summary: "measure kernels against the device's ceiling, and drawing and editing end to end",
    load: () => import("./bench.ts"),
  },
  {
    name: "completion",
    summary: "print a script that completes commands and flags in a shell",
    load: async () => ({ command: (await import("./completion.ts")).completionOf(commandTable) }),
  },
];

/**
 * Runs the command line. Returns the exit code: 0 for success, 1 for failure, 2 for wrong
 * arguments; 130, 143 or 129 when SIGINT (Ctrl-C), SIGTERM or SIGHUP ended it; 75 when SIGTERM
 * stopped `sweep run` after a batch.
 */
export async function main(args: readonly string[], table: readonly CommandEntry[] = commandTable): Promise<number> {
  const [name, ...rest] = args;
  const isHelp = name === "help" || name === "--help" || name === "-h";
  if (name === undefined || (isHelp && rest.length === 0)) {
    print(help(table));
    return name === undefined ? exitCodes.misused : exitCodes.done;
  }
  if (name === "--version" || name === "-v" || name === "-V" || name === "version") {
    print(versionLine());
    return exitCodes.done;
  }
  const wanted = isHelp ? rest[0] : name;
  const entry = table.find((each) => each.name === wanted);
  if (entry === undefined) {
    complain(`bluerose: ${unknownCommand(wanted, table)}`);
    return exitCodes.misused;
  }
  // "help sweep run" asks for the help of "sweep run".
  const own = isHelp ? [...rest.slice(1).filter((word) => !word.startsWith("-")), "--help"] : rest;
  return await runCommand(`bluerose ${entry.name}`, own, entry.load);
}

function unknownCommand(wanted: string, table: readonly CommandEntry[]): string {
  if (wanted.startsWith("-")) {
    return `Cannot use ${wanted} before the command: flags follow it, as in bluerose generate ${wanted}`;
  }
  const meant = nearest(wanted, table.map((each) => each.name));
  const advice = meant === undefined ? "bluerose --help lists the commands" : `did you mean bluerose ${meant}?`;
  return `Cannot run "${wanted}" as there is no such command: ${advice}`;
}

function help(table: readonly CommandEntry[]): string {
  const width = terminalWidth();
  return [
    ...wrap(
      "Blue Rose edits the implicit assumptions of a text-to-image model, and draws with the edited model.\n\n" +
        'Asked for roses, a model draws red ones. An edit from "a pack of roses" to "a pack of blue roses" changes that ' +
        "for all prompts with roses and leaves other prompts nearly unchanged. It takes milliseconds and no training.",
      width,
    ),
    "",
    "Usage: bluerose COMMAND [flags]",
    "",
    "Commands:",
    twoColumns(table.map(({ name, summary }) => [name, summary]), width),
    "",
    ...wrap("bluerose COMMAND --help shows the flags of a command, with examples.", width),
  ].join("\n");
}

if (import.meta.main) {
  enterUsersFolder();
  Deno.exit(await main(Deno.args));
}
