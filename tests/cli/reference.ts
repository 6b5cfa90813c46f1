import { commandTable } from "../../cli/main.ts";
import { helpOfFlags } from "../../cli/help.ts";
import type { Command } from "../../cli/command.ts";

/** The page with the flags of all commands. */
export const referencePath = new URL("../../docs/cli.md", import.meta.url);

/** Columns of the flags in the page. */
const width = 110;

/**
 * The text of every command's flags, by the words that select it. Those that all take are left out.
 */
export async function flagTexts(): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  const add = (words: string, { flags, subcommands }: Command) => {
    const own = Object.fromEntries(Object.entries(flags).filter(([, { group }]) => group !== "Messages"));
    if (Object.keys(own).length > 0) texts.set(words, helpOfFlags(own, width));
    for (const [word, command] of subcommands ?? []) add(`${words} ${word}`, command);
  };
  for (const { name, load } of commandTable) add(name, (await load()).command);
  return texts;
}

/** The blocks of flags in the page, by the command that the comment before each names. */
export const flagBlocks = /(<!-- flags of ([a-z ]+), written by deno task docs -->\n\n```text\n)([^]*?)(\n```)/g;
