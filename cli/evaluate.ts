import { type Command, defineGroup } from "./command.ts";
import { command as edits } from "./evaluate_edits.ts";
import { command as editors } from "./evaluate_editors.ts";
import { command as leakage } from "./evaluate_leakage.ts";

/** `bluerose evaluate`: dispatches to one of its evaluations. */
export const command: Command = defineGroup({
  name: "evaluate",
  summary: "judge edits by the pictures that the edited model draws",
  noun: "subject",
  subcommands: new Map([["edits", edits], ["editors", editors], ["leakage", leakage]]),
});
