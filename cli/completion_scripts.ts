/**
 * Completion scripts for shells, from a description of all commands.
 *
 * @module
 */

/** A flag as scripts complete it. */
export interface CompletionFlag {
  /** The long name, without dashes. */
  readonly long: string;
  /** All spellings, with dashes. */
  readonly written: readonly string[];
  readonly help: string;
  readonly takesValue: boolean;
  /** The values that are completed; empty for all others. */
  readonly values: readonly string[];
  readonly takesPath: boolean;
}

/** A command as scripts complete it. */
export interface CompletionCommand {
  /** The words that select it: `["sweep", "run"]`. */
  readonly words: readonly string[];
  readonly summary: string;
  readonly subcommands: readonly { readonly word: string; readonly summary: string }[];
  readonly flags: readonly CompletionFlag[];
  /** Whether it takes paths that are not values of flags. */
  readonly takesPaths: boolean;
}

const head = (shell: string) => `# ${shell} completion for bluerose, printed by: bluerose completion ${shell}`;

/** The words after `bluerose`: all commands, and help. */
function firstWords(commands: readonly CompletionCommand[]): string[] {
  return [...commands.filter(({ words }) => words.length === 1).map(({ words }) => words[0]), "help"];
}

/** A script for bash 3.2 and later. */
export function bashCompletion(commands: readonly CompletionCommand[]): string {
  const groups = commands.filter(({ subcommands }) => subcommands.length > 0).map(({ words }) => words[0]);
  const cases = commands.map(({ words, subcommands, flags }) => {
    const values = flags.filter(({ takesValue, values }) => takesValue && values.length > 0)
      .map(({ written, values }) => `        ${written.join("|")}) list=${quoted(values.join(" "))} ;;`);
    const others = flags.filter(({ takesValue, values }) => takesValue && values.length === 0)
      .flatMap(({ written }) => written);
    const all = [...subcommands.map(({ word }) => word), ...flags.flatMap(({ written }) => written)];
    return [
      `    ${quoted(words.join(" "))})`,
      '      case "$prev" in',
      ...values,
      ...(others.length > 0 ? [`        ${others.join("|")}) return ;;`] : []),
      `        *) list=${quoted(all.join(" "))} ;;`,
      "      esac ;;",
    ].join("\n");
  });
  return `${head("bash")}
_bluerose() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" cmd="" list=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -gt 1 ]; then cmd="\${COMP_WORDS[1]}"; fi
  case "$cmd" in
    ${groups.join("|")}) if [ "$COMP_CWORD" -gt 2 ]; then cmd="$cmd \${COMP_WORDS[2]}"; fi ;;
  esac
  case "$cmd" in
    ""|help) list=${quoted(firstWords(commands).join(" "))} ;;
${cases.join("\n")}
  esac
  COMPREPLY=( $(compgen -W "$list" -- "$cur") )
}
complete -o default -F _bluerose bluerose`;
}

/** A script for zsh, with descriptions. */
export function zshCompletion(commands: readonly CompletionCommand[]): string {
  const groups = commands.filter(({ subcommands }) => subcommands.length > 0).map(({ words }) => words[0]);
  const described = (word: string, help: string) => quoted(`${word.replaceAll(":", "\\:")}:${help}`);
  const list = (entries: readonly string[]) => entries.map((entry) => `        ${entry}`).join("\n");
  const first = commands.filter(({ words }) => words.length === 1)
    .map(({ words, summary }) => described(words[0], summary));
  const cases = commands.map(({ words, subcommands, flags, takesPaths }) => {
    const values = flags.filter(({ takesValue, values }) => takesValue && values.length > 0)
      .map(({ written, values }) =>
        `        ${written.join("|")}) compadd -- ${values.map(quoted).join(" ")}; return ;;`
      );
    const paths = flags.filter(({ takesPath }) => takesPath).flatMap(({ written }) => written);
    const free = flags.filter(({ takesValue, takesPath, values }) => takesValue && !takesPath && values.length === 0)
      .flatMap(({ written }) => written);
    const entries = [
      ...subcommands.map(({ word, summary }) => described(word, summary)),
      ...flags.flatMap(({ written, help }) => written.map((each) => described(each, help))),
    ];
    return [
      `    ${quoted(words.join(" "))})`,
      '      case "$prev" in',
      ...values,
      ...(paths.length > 0 ? [`        ${paths.join("|")}) _files; return ;;`] : []),
      ...(free.length > 0 ? [`        ${free.join("|")}) return ;;`] : []),
      "      esac",
      "      entries=(",
      list(entries),
      "      )",
      ...(takesPaths ? ['      [[ "$words[CURRENT]" == -* ]] || _files'] : []),
      "      ;;",
    ].join("\n");
  });
  return `#compdef bluerose
${head("zsh")}
_bluerose() {
  local cmd="" prev="$words[CURRENT-1]"
  local -a entries
  (( CURRENT > 2 )) && cmd="$words[2]"
  case "$cmd" in
    ${groups.join("|")}) (( CURRENT > 3 )) && cmd="$cmd $words[3]" ;;
  esac
  case "$cmd" in
    ""|help)
      entries=(
${list([...first, described("help", "show the help of a command")])}
      ) ;;
${cases.join("\n")}
  esac
  _describe -o bluerose entries
}
if [ "$funcstack[1]" = "_bluerose" ]; then _bluerose "$@"; else compdef _bluerose bluerose; fi`;
}

/** A script for fish, with descriptions. */
export function fishCompletion(commands: readonly CompletionCommand[]): string {
  const lines = [head("fish"), "complete -c bluerose -f"];
  const complete = (condition: string, rest: string) =>
    lines.push(`complete -c bluerose -n ${quoted(condition)} ${rest}`);
  for (const { words, summary, subcommands, flags, takesPaths } of commands) {
    const [word, subword] = words;
    if (subword === undefined) complete("__fish_use_subcommand", `-a ${word} -d ${quoted(summary)}`);
    const within = `__fish_seen_subcommand_from ${word}${
      subword === undefined ? "" : `; and __fish_seen_subcommand_from ${subword}`
    }`;
    const names = subcommands.map(({ word }) => word);
    for (const { word, summary } of subcommands) {
      complete(`${within}; and not __fish_seen_subcommand_from ${names.join(" ")}`, `-a ${word} -d ${quoted(summary)}`);
    }
    if (takesPaths) complete(within, "-F");
    for (const { written, help, takesValue, values, takesPath } of flags) {
      const names = written.map((each) => each.startsWith("--") ? `-l ${each.slice(2)}` : `-s ${each.slice(1)}`);
      const value = values.length > 0
        ? ` -x -a ${quoted(values.join(" "))}`
        : takesPath
        ? " -r -F"
        : takesValue
        ? " -x"
        : "";
      complete(within, `${names.join(" ")}${value} -d ${quoted(help)}`);
    }
  }
  complete("__fish_use_subcommand", `-a help -d ${quoted("show the help of a command")}`);
  return lines.join("\n");
}

/** A word of a shell, in single quotes; line breaks become spaces. */
function quoted(text: string): string {
  return `'${text.replaceAll("\n", " ").replaceAll("'", `'\\''`)}'`;
}
