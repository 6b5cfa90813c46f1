import { ArgumentError } from "./argument_error.ts";
import { type Command, type CommandEntry, defineCommand } from "./command.ts";
import { bashCompletion, type CompletionCommand, fishCompletion, zshCompletion } from "./completion_scripts.ts";
import { aliasesOf, dashed, type Flag, kebab } from "./flag_types.ts";
import { nearest } from "./nearest.ts";
import { print } from "./printer.ts";

const shells = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } as const;
const shellNames = Object.keys(shells);

/** `bluerose completion`: prints a shell's completion script for a table of commands. */
export const completionOf = (table: readonly CommandEntry[]): Command =>
  defineCommand({
    name: "completion",
    summary: "print a script that completes commands and flags in a shell",
    usage: "bash|zsh|fish",
    details: "The script is made from the same tables of flags as the help. It completes the command bluerose.",
    positionals: { placeholder: "bash, zsh or fish", min: 1, max: 1 },
    flags: {},
    examples: [
      { line: "completion bash > ~/.local/share/bash-completion/completions/bluerose", says: "bash" },
      { line: 'completion zsh > "${fpath[1]}/_bluerose"', says: "zsh" },
      { line: "completion fish > ~/.config/fish/completions/bluerose.fish", says: "fish" },
    ],
    async run(_values, { positionals: [shell] }) {
      if (!Object.hasOwn(shells, shell)) {
        const meant = nearest(shell, shellNames);
        throw new ArgumentError(
          `Cannot complete in ${JSON.stringify(shell)}: it takes bash, zsh or fish` +
            (meant === undefined ? "" : ` (did you mean ${meant}?)`),
          { argument: shell },
        );
      }
      const all: CompletionCommand[] = [];
      for (const { name, load } of table) all.push(...described([name], (await load()).command));
      print(shells[shell as keyof typeof shells](all));
    },
  });

/** A command with its subcommands, as the scripts need them. */
function described(words: readonly string[], command: Command): CompletionCommand[] {
  const { summary, flags, subcommands = new Map<string, Command>() } = command;
  return [
    {
      words,
      summary,
      subcommands: [...subcommands].map(([word, { summary }]) => ({ word, summary })),
      flags: Object.entries(flags).map(([name, flag]) => ({
        long: kebab(name),
        written: writtenForms(name, flag),
        help: flag.help,
        takesValue: flag.kind !== "switch",
        values: valuesOf(flag),
        takesPath: "placeholder" in flag && /FILE|DIR|MODEL|PATH/.test(flag.placeholder ?? ""),
      })),
      takesPaths: command.takesPaths,
    },
    ...[...subcommands].flatMap(([word, subcommand]) => described([...words, word], subcommand)),
  ];
}

/** All spellings; a switch that is on by default is completed by its negation only. */
function writtenForms(name: string, flag: Flag): string[] {
  if (flag.kind === "switch" && flag.default) return [`--no-${kebab(name)}`];
  return [`--${kebab(name)}`, ...aliasesOf(flag).map(dashed)];
}

function valuesOf(flag: Flag): readonly string[] {
  return flag.kind === "text" ? flag.choices ?? flag.suggestions ?? [] : [];
}
