/**
 * Commands: a name, a table of flags, the help and the function to run.
 *
 * @module
 */
import { ArgumentError } from "./argument_error.ts";
import { parseArguments } from "./arguments.ts";
import { checkNotRead, type NamedPath } from "./files.ts";
import { type Flags, kebab, type Positionals, type TextFlag, type Values } from "./flag_types.ts";
import { helpOfFlags, twoColumns } from "./help.ts";
import { nearest } from "./nearest.ts";
import { requireAccess } from "./permissions.ts";
import { note, print, withPrintMode } from "./printer.ts";
import { terminalWidth, wrap } from "./terminal.ts";

/** The declaration of a command; see {@linkcode defineCommand}. */
export interface CommandDefinition<F extends Flags> {
  readonly name: string;
  /** The words that call it. Default: "bluerose NAME". */
  readonly program?: string;
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
  /** Rewrites the arguments before they are parsed. Default: they stay as they are. */
  readonly rewrite?: (args: readonly string[]) => readonly string[];
  /** Runs the command; rejects when any part of the work fails. */
  run(values: Values<F>, more: { readonly positionals: string[]; readonly given: ReadonlySet<keyof F> }): Promise<void>;
}

/** A command that can be called with arguments. */
export interface Command {
  /** Its name on the command line. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** The text of `bluerose NAME --help`, wrapped to the terminal. */
  readonly help: string;
  /** All flags that it takes; empty for a group. */
  readonly flags: Flags;
  /** The commands of a group, by the word that selects them. */
  readonly subcommands?: ReadonlyMap<string, Command>;
  /** Whether it takes paths that are not values of flags. */
  readonly takesPaths: boolean;
  /** Parses the arguments and runs; prints the help instead if they hold `--help` or `-h`. */
  call(args: readonly string[]): Promise<void>;
}

/** An entry of the command table. */
export interface CommandEntry {
  /** The command's name on the command line. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Loads the command's file, which exports it as `command`. */
  readonly load: () => Promise<{ readonly command: Command }>;
}

/** Flags that every command takes. */
const commonFlags = {
  json: { kind: "switch", group: "Messages", help: "print the result as JSON, and nothing else on standard output" },
  quiet: { kind: "switch", alias: "q", group: "Messages", help: "print errors only (and JSON, with --json)" },
  help: { kind: "switch", alias: "h", group: "Messages", help: "show this help" },
} as const satisfies Flags;

/**
 * Creates a command from its declaration. It takes {@linkcode commonFlags} too.
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
  const { name, summary, positionals, rewrite = (args) => args } = definition;
  const flags: Flags = {
    ...definition.flags,
    ...commonFlags,
    ...("json" in definition.flags ? { json: definition.flags.json } : {}),
  };
  return {
    name,
    summary,
    flags,
    takesPaths: positionals?.access !== undefined,
    get help() {
      return helpOf(definition, flags);
    },
    async call(args) {
      if (asksForHelp(args)) return print(helpOf(definition, flags));
      const parsed = parseArguments(rewrite(args), flags, { positionals });
      const { json, quiet, ...values } = parsed.values as Record<string, unknown>;
      checkAccess(definition, parsed.values, parsed);
      await checkNotRead(filesOf(definition, parsed.values, parsed));
      await withPrintMode({ json: json === true || json === "-", quiet: quiet === true }, async () => {
        for (const flag of parsed.drawn) note(`${flag} ${values[flag]} (drawn at random)`);
        const own = "json" in definition.flags ? { ...values, json } : values;
        await definition.run(own as Values<F>, parsed as unknown as { positionals: string[]; given: Set<keyof F> });
      });
    },
  };
}

/**
 * Creates a command that dispatches to others by its first argument.
 *
 * @param subcommands by the word that selects them
 */
export function defineGroup(
  definition: {
    name: string;
    summary: string;
    /** What the first argument selects: "step". */
    noun: string;
    details?: string;
    examples?: CommandDefinition<Flags>["examples"];
    subcommands: ReadonlyMap<string, Command>;
  },
): Command {
  const { name, summary, noun, details = "", examples = [], subcommands } = definition;
  const words = [...subcommands.keys()];
  const help = (): string => {
    const width = terminalWidth();
    return [
      ...wrap(`bluerose ${name}: ${summary}`, width),
      "",
      `Usage: bluerose ${name} ${words.join("|")} [flags]`,
      "",
      twoColumns([...subcommands].map(([word, command]) => [word, command.summary]), width),
      ...(details === "" ? [] : ["", ...wrap(details, width)]),
      ...examplesText(examples, width),
      "",
      ...wrap(`Flags: ${words.map((word) => `bluerose ${name} ${word} --help`).join(", ")}.`, width),
    ].join("\n");
  };
  return {
    name,
    summary,
    flags: {},
    subcommands,
    takesPaths: false,
    get help() {
      return help();
    },
    async call([word, ...rest]) {
      const subcommand = subcommands.get(word ?? "");
      if (subcommand) return await subcommand.call(rest);
      if (word === "help") {
        const asked = subcommands.get(rest[0] ?? "");
        return print(asked?.help ?? help());
      }
      if (word !== undefined && asksForHelp([word, ...rest])) return print(help());
      const meant = word === undefined ? undefined : nearest(word, words);
      const choices = `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
      throw new ArgumentError(
        `Cannot ${name} ${word === undefined ? `without a ${noun}` : JSON.stringify(word)}: ${
          meant === undefined ? `the ${noun} must be ${choices}` : `did you mean ${meant}?`
        }`,
        { argument: word ?? choices },
      );
    },
  };
}

function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return args.slice(0, end < 0 ? args.length : end).some((argument) => ["--help", "-h"].includes(argument));
}

/** Asks for the permissions that the paths of flags and positionals need. */
function checkAccess<F extends Flags>(
  { flags, positionals }: CommandDefinition<F>,
  values: Readonly<Record<string, unknown>>,
  parsed: { readonly positionals: readonly string[] },
): void {
  for (const [name, flag] of Object.entries(flags)) {
    if (!("access" in flag) || flag.access === undefined) continue;
    for (const path of [values[name] ?? []].flat()) {
      if (typeof path === "string" && path !== "" && path !== "-") requireAccess(path, flag.access);
    }
  }
  if (!positionals?.access) return;
  for (const path of parsed.positionals) {
    if (path === "") {
      throw new ArgumentError(`Cannot use "" as ${positionals.placeholder}: name a file or folder`, {
        argument: positionals.placeholder,
      });
    }
    requireAccess(path, positionals.access);
  }
}

/** The paths that flags write to and may read from, by the flags' names. */
function filesOf<F extends Flags>(
  { flags, positionals }: CommandDefinition<F>,
  values: Readonly<Record<string, unknown>>,
  parsed: { readonly positionals: readonly string[] },
): { written: NamedPath[]; read: NamedPath[] } {
  const written: NamedPath[] = [], read: NamedPath[] = [];
  for (const [name, flag] of Object.entries(flags)) {
    const { access, mayRead = access?.kind === "read" } = flag as TextFlag;
    const paths = [values[name] ?? []].flat().filter((value) => typeof value === "string")
      .map((path) => ({ flag: `--${kebab(name)}`, path }));
    if (access?.kind === "write") written.push(...paths);
    else if (mayRead) read.push(...paths);
  }
  if (positionals?.access) read.push(...parsed.positionals.map((path) => ({ flag: positionals.placeholder, path })));
  return { written, read };
}

function helpOf<F extends Flags>(
  { name, program = `bluerose ${name}`, summary, usage, details, examples = [] }: CommandDefinition<F>,
  flags: Flags,
): string {
  const width = terminalWidth();
  return [
    ...wrap(`${program}: ${summary}`, width),
    "",
    ...wrap(`Usage: ${program} ${usage}`, width),
    ...(details === undefined ? [] : ["", ...wrap(details, width)]),
    "",
    helpOfFlags(flags, width),
    ...examplesText(examples, width),
  ].join("\n");
}

/** Examples are broken between arguments, so that they can be copied. */
function examplesText(examples: NonNullable<CommandDefinition<Flags>["examples"]>, width: number): string[] {
  if (examples.length === 0) return [];
  const texts = examples.flatMap(({ line, says }) => [
    ...wrap(says, width - 4).map((line) => `  # ${line}`),
    ...brokenCommand(`bluerose ${line}`, width - 2).map((line) => `  ${line}`),
  ]);
  return ["", "Examples:", ...texts];
}

/** A command line as a shell reads it over several lines: each but the last ends in a backslash. */
export function brokenCommand(line: string, width: number): string[] {
  const words = line.match(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g) ?? [];
  const lines: string[] = [];
  let current = "";
  for (const [i, word] of words.entries()) {
    // A flag stays with its value.
    const next = words[i + 1];
    const unit = word.startsWith("-") && next !== undefined && !next.startsWith("-") ? `${word} ${next}` : word;
    if (current !== "" && `${current} ${unit} \\`.length > width && !/(^| )-[^ ]+$/.test(current)) {
      lines.push(`${current} \\`);
      current = `  ${word}`;
    } else current = current === "" ? word : `${current} ${word}`;
  }
  return [...lines, current];
}
