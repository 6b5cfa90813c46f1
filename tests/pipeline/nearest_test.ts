import { assertEquals } from "@std/assert";
import { nearest } from "../../pipeline/nearest.ts";

Deno.test("nearest() prefers the word of the same letters and digits to others at the same distance", () => {
  const flags = ["--prompt", "--prompts-file", "--prompt-2", "--negative-prompt-2"];
  assertEquals(nearest("--prompt2", flags), "--prompt-2");
  assertEquals(nearest("--negativePrompt_2", flags), "--negative-prompt-2");
  assertEquals(nearest("--promt", flags), "--prompt");
  assertEquals(nearest("--lambda", flags), undefined);
});
