import { assertEquals } from "@std/assert";
import { flagBlocks, flagTexts, referencePath } from "./reference.ts";

Deno.test("docs/cli.md shows the flags of every command as the parser takes them; deno task docs updates it", async () => {
  const page = await Deno.readTextFile(referencePath);
  const shown = new Map([...page.matchAll(flagBlocks)].map(([, , words, text]) => [words, text]));
  const texts = await flagTexts();
  assertEquals(shown, texts);
  const named = new Set(page.matchAll(/^\| `(\w+)` +\|/gm).map(([, word]) => word));
  const commands = new Set([...texts.keys()].map((words) => words.split(" ")[0]));
  assertEquals(commands.difference(named), new Set(), "commands without a line in the table");
});
