import { assertEquals, assertThrows } from "@std/assert";
import { OptionError } from "../../../pipeline/errors.ts";
import { splitPrompt } from "../../../pipeline/generation/split_prompt.ts";

Deno.test("options stand beside the prompt or hold it, and are an object", () => {
  assertEquals(splitPrompt("a", { steps: 1 }), ["a", { steps: 1 }]);
  assertEquals(splitPrompt<{ steps?: number }>({ prompt: "a", steps: 1 }, undefined), ["a", { steps: 1 }]);
  assertEquals(splitPrompt<object>("a", undefined), ["a", {}]);
  for (const options of [0, 5, NaN, "x", true, [], ["a"], 5n, Symbol("x"), () => {}]) {
    assertThrows(() => splitPrompt("a", options as never), OptionError, "options must be an object");
  }
});
