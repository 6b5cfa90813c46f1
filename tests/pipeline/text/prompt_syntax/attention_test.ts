import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { PromptError } from "../../../../pipeline/errors.ts";
import { parseAttention } from "../../../../pipeline/text/prompt_syntax/attention.ts";
import { splitLoraTags } from "../../../../pipeline/text/prompt_syntax/lora_tags.ts";

/** [text, weight] of each part; breaks are "break". */
type Expected = readonly (readonly [string, number] | "break")[];

/** What the rules say: × 1.1 for (), ÷ 1.1 for [], × n for (…:n), nested products. */
const cases: readonly (readonly [string, Expected])[] = [
  ["a rose", [["a rose", 1]]],
  ["", [["", 1]]],
  ["a (red) rose", [["a ", 1], ["red", 1.1], [" rose", 1]]],
  ["a (red:1.3) rose", [["a ", 1], ["red", 1.3], [" rose", 1]]],
  ["a (red: .5 ) rose", [["a ", 1], ["red", 0.5], [" rose", 1]]],
  ["(red:-1)", [["red", -1]]],
  ["a [red] rose", [["a ", 1], ["red", 1 / 1.1], [" rose", 1]]],
  ["((red)) ((blue:1.2))", [["red", 1.1 ** 2], [" ", 1], ["blue", 1.2 * 1.1]]],
  ["(a (red:1.5) rose:2)", [["a ", 2], ["red", 3], [" rose", 2]]],
  [String.raw`\(red\) \[blue\] \\`, [["(red) [blue] \\", 1]]],
  [String.raw`(\(red\):1.5)`, [["(red)", 1.5]]],
  ["(red", [["red", 1.1]]],
  ["a (red [blue", [["a ", 1], ["red ", 1.1], ["blue", 1.1 / 1.1]]],
  ["red) blue]", [["red) blue]", 1]]],
  ["red: blue:1.3)", [["red: blue:1.3)", 1]]],
  ["()", [["", 1]]],
  ["(red:1.0) rose", [["red rose", 1]]],
  ["a BREAK b", [["a", 1], "break", ["b", 1]]],
  // the mark of a break is a weight of -1, which brackets multiply: then it is text
  ["(a BREAK b:1.2)", [["a", 1.2], ["BREAK", -1.2], ["b", 1.2]]],
  ["(a BREAK b", [["a", 1.1], ["BREAK", -1.1], ["b", 1.1]]],
  ["(a BREAK b:1)", [["a", 1], "break", ["b", 1]]],
  ["(a:-1) BREAK b", [["a", -1], ["", 1], "break", ["b", 1]]],
  ["BREAKFAST", [["BREAKFAST", 1]]],
];

Deno.test("weights follow A1111's rules: brackets, numbers, nesting, escapes, what is not closed", () => {
  for (const [prompt, expected] of cases) {
    const parts = parseAttention(prompt);
    assertEquals(
      parts.map((part) => part === "break" ? part : part.text),
      expected.map((e) => e === "break" ? e : e[0]),
    );
    parts.forEach((part, i) => {
      const wanted = expected[i];
      if (part !== "break" && wanted !== "break") assertAlmostEquals(part.weight, wanted[1], 1e-12, prompt);
    });
  }
});

Deno.test("prompt editing, alternation and AND are refused; escaped brackets and the word 'and' are text", () => {
  for (
    const [prompt, message] of [
      ["a [red:blue:0.5] rose", "prompt editing"],
      ["a [red:10] rose", "prompt editing"],
      ["a [red::0.5] rose", "prompt editing"],
      ["a [(red:1.2):blue:.5] rose", "prompt editing"],
      ["a ([red:blue:0.5]:1.2) rose", "prompt editing"],
      ["a [red|blue] rose", "alternation"],
      ["a rose AND a cat", "composition"],
      ["a (rose:1.2.3)", "not a number"],
    ]
  ) assertThrows(() => parseAttention(prompt), PromptError, message, prompt);
  for (const prompt of [String.raw`a \[red:blue:0.5\] rose`, "a rose and a cat", "a [red: or so] rose", "a | b"]) {
    parseAttention(prompt);
  }
});

Deno.test("LoRA tags are taken out with their weights, and name no paths", () => {
  const tags = (prompt: string) => splitLoraTags(prompt);
  const one = (name: string, textEncoderWeight: number, unetWeight = textEncoderWeight) => [
    { name, textEncoderWeight, unetWeight },
  ];
  assertEquals(tags("a rose <lora:ink:0.8>"), { text: "a rose ", loras: one("ink", 0.8) });
  assertEquals(tags("<lora:ink v1.5>x"), { text: "x", loras: one("ink v1.5", 1) });
  assertEquals(tags("<lyco:ink:-.5>"), { text: "", loras: one("ink", -0.5) });
  assertEquals(tags("<lora:ink:0.8:0.5>").loras, one("ink", 0.8, 0.5));
  assertEquals(tags("<lora:ink:te=0.8:unet=0.5>").loras, one("ink", 0.8, 0.5));
  assertEquals(tags("<lora:a:0.25> <lora:b> <lora:a:0.5>").loras, [...one("a", 0.75), ...one("b", 1)]);
  assertEquals(tags("a <swirl> <x:y>"), { text: "a <swirl> <x:y>", loras: [] });
  for (const bad of ["<lora::1>", "<lora:../x:1>", "<lora:a/b>", "<lora:..>", "<lora:a:x>", "<lora:a:1:1:1>"]) {
    assertThrows(() => tags(bad), PromptError, "write <lora:name:weight>", bad);
  }
  assertThrows(() => tags("<hypernet:a:1>"), PromptError, "hypernetworks are not supported");
});
