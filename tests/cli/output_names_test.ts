import { assert, assertEquals, assertThrows } from "@std/assert";
import { ArgumentError } from "../../cli/argument_error.ts";
import { FreeNames, patternNames, promptPart } from "../../cli/output_names.ts";
import { temporaryFolder } from "./running.ts";

const pictures = [
  { prompt: "a rose", seed: 7n },
  { prompt: "a rose", seed: 8n },
  { prompt: "a cat", seed: 7n },
];

Deno.test("patterns are filled with seed, index and prompt; names without them are numbered", () => {
  assertEquals(patternNames("out.png", pictures.slice(0, 1)), ["out.png"]);
  assertEquals(patternNames("out.png", pictures), ["out_1.png", "out_2.png", "out_3.png"]);
  assertEquals(patternNames("d.1/out", pictures.slice(0, 2)), ["d.1/out_1", "d.1/out_2"]);
  assertEquals(patternNames("{index}_{seed}.png", pictures), ["1_7.png", "2_8.png", "3_7.png"]);
  assertEquals(patternNames("{prompt}/{seed}.jpg", pictures), ["a-rose/7.jpg", "a-rose/8.jpg", "a-cat/7.jpg"]);
  assertEquals(patternNames("{prompt}.png", pictures), ["a-rose_1.png", "a-rose_2.png", "a-cat.png"]);
  assertEquals(patternNames("{{x}}_{seed}.png", pictures.slice(0, 1)), ["{x}_7.png"]);
  assertEquals(patternNames("{seed}.png", [{ prompt: "", seed: 2n ** 64n - 1n }]), ["18446744073709551615.png"]);
});

Deno.test("an unknown placeholder is refused with a suggestion", () => {
  const refuses = (pattern: string, message: string) => {
    const error = assertThrows(() => patternNames(pattern, pictures), ArgumentError);
    assert(error.message.includes(message), error.message);
  };
  refuses("{promt}.png", "did you mean {prompt}?");
  refuses("{}.png", "the placeholders are {seed}, {index} and {prompt}");
  refuses("{constructor}.png", "the placeholders are");
});

Deno.test("a prompt becomes part of a name on any system: no separators, no control characters, bounded", () => {
  const cases: [prompt: string, part: string][] = [
    ["a field of roses", "a-field-of-roses"],
    ["../../etc/passwd", "etc-passwd"],
    ["C:\\windows\\x", "C-windows-x"],
    ["a \x1b[31mred\x1b[0m rose\n", "a-31mred-0m-rose"],
    ["(rose:1.3), {seed}", "rose-1.3-,-seed"],
    ["バラ", "バラ"],
    ["…", "untitled"],
    ["", "untitled"],
    ["con", "_con"],
    ["NUL.png", "_NUL.png"],
    ["\ud800", "untitled"],
  ];
  for (const [prompt, part] of cases) assertEquals(promptPart(prompt), part, JSON.stringify(prompt));
  for (const prompt of ["x".repeat(10_000), "バ".repeat(10_000), "🌹a".repeat(1000)]) {
    const part = promptPart(prompt);
    assert(part.isWellFormed() && new TextEncoder().encode(part).length <= 80, part);
  }
});

Deno.test("names that exist are kept: the next free number is taken; --overwrite takes the name itself", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  for (const name of ["rose.png", "rose_1.png", "cat_2.png"]) await Deno.writeTextFile(at(name), "kept");
  const names = new FreeNames({ overwrite: false });
  assertEquals(await names.take(at("rose.png")), at("rose_2.png"));
  assertEquals(await names.take(at("rose.png")), at("rose_3.png"), "given out already");
  assertEquals(await names.take(at("cat_2.png")), at("cat_3.png"));
  assertEquals(await names.take(at("new.png")), at("new.png"));
  assertEquals(await new FreeNames({ overwrite: true }).take(at("rose.png")), at("rose.png"));
});
