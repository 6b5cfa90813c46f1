import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { DataError, PromptError } from "../../pipeline/errors.ts";
import { readPictureSettings } from "../../pipeline/generation/picture_settings.ts";
import { ImageError } from "../../pipeline/image/errors.ts";
import { decodePicture, encodePicture } from "../../pipeline/image/picture.ts";
import { readPictureText } from "../../pipeline/image/picture_text.ts";
import { withPngText } from "../../pipeline/image/png_text.ts";
import { parseAttention } from "../../pipeline/text/prompt_syntax/attention.ts";
import { splitLoraTags } from "../../pipeline/text/prompt_syntax/lora_tags.ts";
import { fuzz } from "./fuzz.ts";

const picture = { data: new Uint8Array(12).fill(90), width: 2, height: 2 };
const text = { parameters: "a rose\nSteps: 2", bluerose: "{}" };
const files = await Promise.all((["png", "jpeg"] as const).map((format) => encodePicture(picture, format, { text })));

/** A picture with some bytes changed, and perhaps cut. */
const damaged = fc.record({
  file: fc.constantFrom(...files),
  changes: fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 6 }),
  length: fc.option(fc.nat(400)),
}).map(({ file, changes, length }) => {
  const bytes = file.slice(0, length ?? file.length);
  for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
  return bytes;
});

Deno.test("text and pixels of damaged pictures are read, or refused by typed errors", async () => {
  await fuzz(damaged, async (bytes) => {
    for (const read of [readPictureText, decodePicture, readPictureSettings]) {
      try {
        await read(bytes);
      } catch (error) {
        assert(error instanceof ImageError || error instanceof DataError, `${read.name}: ${error}`);
      }
    }
  }, 300);
});

Deno.test("settings of any JSON are refused by typed errors", async () => {
  const json = fc.record({
    prompt: fc.jsonValue(),
    seed: fc.jsonValue(),
    exact: fc.oneof(fc.jsonValue(), fc.record({ edits: fc.jsonValue(), adapters: fc.jsonValue() })),
  }, { requiredKeys: [] });
  await fuzz(fc.oneof(json, fc.jsonValue()), async (value) => {
    try {
      await readPictureSettings(withPngText(files[0], { bluerose: JSON.stringify(value) }));
    } catch (error) {
      assert(error instanceof DataError, String(error));
    }
  }, 300);
});

Deno.test("prompts of brackets, colons and escapes keep their text, and give finite weights or a typed error", async () => {
  const pieces = fc.constantFrom(
    "(",
    ")",
    "[",
    "]",
    ":1.2)",
    ":",
    "\\",
    "\\(",
    "|",
    " AND ",
    "BREAK",
    "a",
    "rose, ",
    "<lora:a:1>",
  );
  await fuzz(fc.array(pieces, { maxLength: 24 }).map((parts) => parts.join("")), (prompt) => {
    try {
      const parts = parseAttention(splitLoraTags(prompt).text);
      assert(parts.length > 0);
      for (const part of parts) if (part !== "break") assert(Number.isFinite(part.weight));
      const letters = (value: string) => value.replace(/<lora:a:1>|BREAK/g, "").replace(/[^a-z]/g, "");
      assertEquals(letters(parts.map((part) => part === "break" ? "" : part.text).join("")), letters(prompt));
    } catch (error) {
      assert(error instanceof PromptError, String(error));
    }
  }, 500);
});
