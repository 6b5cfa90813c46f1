import { assert, assertEquals, assertThrows } from "@std/assert";
import { alignPrompts, augmented, checkWordsAreRead } from "../../../../pipeline/editing/prompts/alignment.ts";
import { AlignmentError } from "../../../../pipeline/editing/errors.ts";
import { EditError } from "../../../../pipeline/errors.ts";
import { CLIPTokenizer } from "../../../../pipeline/text/tokenizer.ts";
import { loadGoldens } from "../../../goldens.ts";
import { goldens, pocket } from "../../../paths.ts";

const miniPath = (name: string) => `${goldens}/${name}/tokenizer`;

for (const name of ["sd1-mini", "sd2-mini"]) {
  Deno.test(`alignPrompts() equals the reference's alignment of prompts and augmentations on ${name}`, async () => {
    const tokenizer = await CLIPTokenizer.fromPretrained(miniPath(name));
    const { tensors, note } = await loadGoldens(name);
    for (const [index, [source, destination]] of (note.pairs as [string, string][]).entries()) {
      const sources = augmented(source), destinations = augmented(destination);
      const found = sources.map((text, i) => alignPrompts(text, destinations[i], tokenizer).positions);
      found.forEach((positions) => assertEquals(positions.map(([a]) => a), Array.from({ length: 77 }, (_, i) => i)));
      const golden = tensors.get(`edit.${index}.alignment`)!;
      assertEquals(found.flat().map(([, b]) => b), Array.from(golden.data));
    }
  });
}

Deno.test("augmented() lowercases a leading A only after an augmentation", () => {
  assertEquals(augmented("A pack of roses"), [
    "A pack of roses",
    "A photo of a pack of roses",
    "An image of a pack of roses",
    "A picture of a pack of roses",
  ]);
  assertEquals(augmented("Roses", ["see "]), ["Roses", "see Roses"]);
  assertEquals(augmented("x", []), ["x"]);
});

Deno.test('alignPrompts() reports the text of token pairs, and matches "an" with "a"', async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(
    `${pocket}/tokenizer`,
  );
  const { pairs } = alignPrompts("an apple", "a red apple", tokenizer);
  const words = pairs.map(({ sourceToken, destinationToken }) => `${sourceToken}→${destinationToken}`);
  assertEquals(words[1], "an→a");
  assertEquals(pairs.at(-1)!.sourceToken, "<|endoftext|>");
  assertEquals(pairs.at(-1)!.destination, tokenizer.encode("a red apple").length - 1);
});

Deno.test("alignPrompts() names the first token without a match, and shows both token lists", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(miniPath("sd1-mini"));
  const error = assertThrows(
    () => alignPrompts("a red rose", "a rose", tokenizer),
    AlignmentError,
    "has no partner",
  ) as AlignmentError;
  assert(error instanceof EditError);
  assertEquals(error.sourceTokens[0], "<|startoftext|>");
  assertEquals(error.destinationTokens, tokenizer.encode("a rose").map((id) => tokenizer.decode([id])));
  assert(error.position >= 2 && error.message.includes(JSON.stringify(error.sourceTokens[error.position])));
  // Order counts.
  assertThrows(() => alignPrompts("rose a", "a rose", tokenizer), AlignmentError);
});

Deno.test("alignPrompts() accepts manual pairs and still aligns start, end and padding tokens", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(
    `${pocket}/tokenizer`,
  );
  const source = tokenizer.encode("a red rose"), destination = tokenizer.encode("a dark blue rose");
  const { positions } = alignPrompts("a red rose", "a dark blue rose", tokenizer, { manual: [[2, 3]] });
  assertEquals(positions.slice(0, 3), [[0, 0], [2, 3], [source.length - 1, destination.length - 1]]);
  assertEquals(positions[3], [source.length, destination.length]);
  assertEquals(positions.at(-1), [76, 76]);
  assertThrows(
    () => alignPrompts("a red rose", "a blue rose", tokenizer, { manual: [[1, 99]] }),
    EditError,
    "destination token 99",
  );
});

Deno.test("alignPrompts() truncates prompts that are too long", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(miniPath("sd1-mini"));
  const long = Array(100).fill("a").join(" ");
  const { positions } = alignPrompts(long, long, tokenizer);
  assertEquals(positions.length, 77);
  assert(positions.every(([a, b]) => a === b));
});

Deno.test("words that an edit adds beyond the tokens that are read are refused, and so is a partner lost there", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(miniPath("sd1-mini"));
  const filler = "rose ".repeat(80).trim();
  const cut = assertThrows(() => checkWordsAreRead(`${filler} cat`, `${filler} white cat`, tokenizer), AlignmentError);
  assert(cut.message.includes("beyond the 77 tokens"), cut.message);
  const lost = assertThrows(() => alignPrompts("rose cat", `${filler} cat`, tokenizer), AlignmentError);
  assert(lost.message.includes("Only the first 77 tokens of a prompt are read"), lost.message);
  // the words that are added are read: the cut takes the end of both
  checkWordsAreRead(`cat ${filler}`, `white cat ${filler}`, tokenizer);
  checkWordsAreRead(`${filler} cat`, `${filler} cat`, tokenizer);
  checkWordsAreRead("a rose", "a blue rose", tokenizer);
});
