/** What the page knows of the editors is what the library does. */
import { assertEquals } from "@std/assert";
import { editMethods, methodSettings } from "../../pipeline/editing/prompts/method.ts";
import { isComplete, lacks, leftOut, methodDefaults, methods, tokensOf } from "../../studio/edit_methods.ts";

Deno.test("the page offers all editors with the library's defaults", () => {
  assertEquals(methods.map(({ method }) => method), [...editMethods]);
  for (const { method, lambda } of methods) {
    const settings = methodSettings({ method });
    assertEquals(settings.lamb, lambda);
    assertEquals(settings.tokens, tokensOf(method === "time" ? {} : { method }));
    for (const [key, value] of Object.entries(methodDefaults)) {
      if (key in settings) assertEquals(settings[key as keyof typeof settings] as unknown, value);
    }
  }
});

Deno.test("a pair without a destination says something where it erases the source", () => {
  const pair = { source: "a rose", destination: " " };
  assertEquals([isComplete(pair), isComplete(pair, { method: "uce" })], [false, true]);
  assertEquals(isComplete({ source: "", destination: "a rose" }, { method: "uce" }), false);
});

Deno.test("a null space needs a locked prompt without the source's words, the other editors none", () => {
  const pairs = [{ source: "a rose", destination: "" }];
  assertEquals(lacks({ pairs, preserve: [] }) ?? lacks({ method: "uce", pairs, preserve: [] }), undefined);
  assertEquals(lacks({ method: "nullspace", pairs, preserve: ["a cat", "a red rose"] }), undefined);
  for (const preserve of [[], ["a red rose"]]) {
    assertEquals(lacks({ method: "nullspace", pairs, preserve })?.includes("lock"), true);
  }
});

Deno.test("a null space leaves out locked prompts with all words of a source; other editors keep them", () => {
  const pairs = [{ source: "a red rose", destination: "" }], preserve = ["the rose, red", "a rose", "a cat"];
  assertEquals(leftOut({ method: "nullspace", pairs, preserve }), ["the rose, red"]);
  assertEquals([...leftOut({ pairs, preserve }), ...leftOut({ method: "uce", pairs, preserve })], []);
});
