import type { Command } from "./command.ts";
import { ArgumentError } from "./arguments.ts";
import { command as edits } from "./evaluate_edits.ts";
import { command as leakage } from "./evaluate_leakage.ts";
import { nearest } from "./nearest.ts";

const evaluations: ReadonlyMap<string, Command> = new Map([["edits", edits], ["leakage", leakage]]);

const summary = "evaluate edits by the pictures that the edited model draws";

const help = [
  `bluerose evaluate: ${summary}`,
  "Usage: bluerose evaluate edits|leakage [flags]",
  [...evaluations].map(([name, { summary }]) => `  ${name.padEnd(7)}  ${summary}`).join("\n"),
  "Flags: bluerose evaluate edits --help, bluerose evaluate leakage --help.",
].join("\n\n");

/** `bluerose evaluate`: dispatches to one of two evaluations. */
export const command: Command = {
  name: "evaluate",
  summary,
  help,
  async call([name, ...rest]) {
    if (name === "--help" || name === "-h") return console.log(help);
    const evaluation = evaluations.get(name ?? "");
    if (evaluation) return await evaluation.call(rest);
    const meant = name === undefined ? undefined : nearest(name, [...evaluations.keys()]);
    throw new ArgumentError(
      `Cannot evaluate ${name === undefined ? "without a subject" : JSON.stringify(name)}: ${
        meant === undefined ? "the subject must be edits or leakage" : `did you mean ${meant}?`
      }`,
      { argument: name ?? "WHAT" },
    );
  },
};
