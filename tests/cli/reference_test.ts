import { assertEquals } from "@std/assert";
import { flagBlocks, flagTexts, referencePath } from "./reference.ts";

Deno.test("docs/cli.md shows the flags of every command as the parser takes them; deno task docs updates it", async () => {
  const page = await Deno.readTextFile(referencePath);
  const shown = new Map([...page.matchAll(flagBlocks)].map(([, , words, text]) => [words, text]));
  assertEquals(shown, await flagTexts());
});
