/**
 * Runs one command: its messages, what it keeps when it fails, and its exit code.
 *
 * @module
 */
import { speakAs } from "../pipeline/advice.ts";
import { flagWords } from "./advice.ts";
import { ArgumentError } from "./argument_error.ts";
import type { Command } from "./command.ts";
import { failureText } from "./failure.ts";
import { PausedError, untilInterrupted } from "./interrupt.ts";
import { forgetKept, keptText } from "./kept.ts";
import { complain, withWarnings } from "./printer.ts";
import { showCursor } from "./progress.ts";

/** Exit codes; signals and {@linkcode PausedError} have their own. */
export const exitCodes = { done: 0, failed: 1, misused: 2, interrupted: 130 } as const;

/**
 * Runs a command until it ends or a signal ends it, and tells why it failed. Returns the exit code.
 *
 * @param name how the command is called, at the beginning of messages
 * @param load loads the command, so that errors in doing so are told alike
 */
export async function runCommand(
  name: string,
  args: readonly string[],
  load: () => Promise<{ readonly command: Command }> | { readonly command: Command },
): Promise<number> {
  using _words = speakAs(flagWords);
  forgetKept();
  let said = name;
  const { result, exitCode } = await untilInterrupted(() =>
    withWarnings(async () => {
      const { command } = await load();
      if (command.subcommands?.has(args[0])) said += ` ${args[0]}`;
      await command.call(args);
    })
  );
  const error = result.status === "rejected" ? result.reason : undefined;
  if (exitCode !== undefined || (error instanceof DOMException && error.name === "AbortError")) {
    showCursor();
    complain(`${said}: interrupted`);
    complainOfKept();
    return exitCode ?? exitCodes.interrupted;
  }
  if (result.status === "fulfilled") return exitCodes.done;
  if (error instanceof PausedError) {
    showCursor();
    complain(`${said}: ${error.message}`);
    complainOfKept();
    return error.exitCode;
  }
  if (error instanceof ArgumentError) {
    complain(`${said}: ${error.message}\n${said} --help shows all flags.`);
    return exitCodes.misused;
  }
  complain(`${said}: ${failureText(error, said)}`);
  complainOfKept();
  return exitCodes.failed;
}

function complainOfKept(): void {
  const text = keptText();
  if (text !== undefined) complain(text);
}
