/** Writes the flags of all commands into docs/cli.md: `deno task docs`. */
import { flagBlocks, flagTexts, referencePath } from "./reference.ts";

const texts = await flagTexts();
const page = await Deno.readTextFile(referencePath);
await Deno.writeTextFile(
  referencePath,
  page.replace(flagBlocks, (whole, head, words, _, tail) => texts.has(words) ? head + texts.get(words) + tail : whole),
);
