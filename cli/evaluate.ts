import type { Command } from "./command.ts";
import { ArgumentError } from "./arguments.ts";
import { command as edits } from "./evaluate_edits.ts";
import { command as leakage } from "./evaluate_leakage.ts";
import { nearest } from "./nearest.ts";

const evaluations: ReadonlyMap<string, Command> = new Map([["edits", edits], ["leakage", leakage]]);

const help = [
  "bluerose evaluate: judge edits by the pictures that the edited model draws",
  "Usage: bluerose evaluate edits|leakage [flags]",
  [...evaluations].map(([name, { summary }]) => `  ${name.padEnd(7)}  ${summary}`).join("\n"),
  "bluerose evaluate edits --help and bluerose evaluate leakage --help show the flags.",
].join("\n\n");

/** `bluerose evaluate`: one of two evaluations, by name. */
export const command: Command = {
  name: "evaluate",
  summary: "judge edits by the pictures that the edited model draws",
  help,
  async call([name, ...rest]) {
    if (name === "--help" || name === "-h") return console.log(help);
    const evaluation = evaluations.get(name ?? "");
    if (evaluation) return await evaluation.call(rest);
    const meant = name === undefined ? undefined : nearest(name, [...evaluations.keys()]);
    throw new ArgumentError(
      `Cannot evaluate ${name === undefined ? "without saying what" : JSON.stringify(name)}: ${
        meant === undefined ? "it takes edits or leakage" : `did you mean ${meant}?`
      }`,
      { argument: name ?? "WHAT" },
    );
  },
};
