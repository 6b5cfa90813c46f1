/**
 * Commands: a name, a table of flags, the help and the function to run.
 *
 * @module
 */
import { type Flags, helpOfFlags, parseArguments, type Positionals, type Values } from "./arguments.ts";

/** The declaration of a command; see {@linkcode defineCommand}. */
export interface CommandDefinition<F extends Flags> {
  readonly name: string;
  /** One line, as `bluerose --help` shows it. */
  readonly summary: string;
  /** What follows the name in the usage line. */
  readonly usage: string;
  /** A paragraph about what the command does. */
  readonly details?: string;
  readonly flags: F;
  readonly positionals?: Positionals;
  /** Working command lines (without `bluerose`), each with a description. */
  readonly examples?: readonly { readonly line: string; readonly says: string }[];
  /** Runs the command; rejects when any part of the work fails. */
  run(values: Values<F>, more: { readonly positionals: string[]; readonly given: ReadonlySet<keyof F> }): Promise<void>;
}

/** A command that can be called with arguments. */
export interface Command {
  /** Its name on the command line. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** The text of `bluerose NAME --help`. */
  readonly help: string;
  /** Parses the arguments and runs; prints the help instead if they hold `--help` or `-h`. */
  call(args: readonly string[]): Promise<void>;
}

/**
 * Creates a command from its declaration.
 *
 * @example
 * ```ts
 * export const command: Command = defineCommand({
 *   name: "generate",
 *   summary: "draw pictures of prompts",
 *   usage: "-m MODEL -p PROMPT [flags]",
 *   flags: { prompt: { kind: "texts", alias: "p", required: true, help: "prompt to draw" } },
 *   async run({ prompt }) { … },
 * });
 * ```
 */
export function defineCommand<const F extends Flags>(definition: CommandDefinition<F>): Command {
  const { name, summary, flags, positionals } = definition;
  const help = helpOf(definition);
  return {
    name,
    summary,
    help,
    async call(args) {
      const end = args.indexOf("--");
      const isHelpWanted = args.slice(0, end < 0 ? args.length : end).some((argument) =>
        ["--help", "-h"].includes(argument)
      );
      if (isHelpWanted) {
        console.log(help);
        return;
      }
      const parsed = parseArguments(args, flags, { positionals });
      await definition.run(parsed.values, parsed);
    },
  };
}

function helpOf<F extends Flags>(
  { name, summary, usage, details, flags, examples = [] }: CommandDefinition<F>,
): string {
  const shown: Flags = { ...flags, help: { kind: "switch", alias: "h", help: "show this help" } };
  return [
    `bluerose ${name}: ${summary}`,
    `Usage: bluerose ${name} ${usage}`,
    details ?? "",
    helpOfFlags(shown),
    examples.length === 0
      ? ""
      : ["Examples:", ...examples.map(({ line, says }) => `  # ${says}\n  bluerose ${line}`)].join("\n"),
  ].filter((part) => part !== "").join("\n\n");
}
