import { assert, assertEquals, assertThrows } from "@std/assert";
import { alignPrompts } from "../../../pipeline/editing/prompts/alignment.ts";
import { editedForms, limitCases, parseEditCases } from "../../../pipeline/evaluation/edit_cases.ts";
import { editGrid, picturesOfGrid } from "../../../pipeline/evaluation/evaluate_edits.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import { DataError } from "../../../pipeline/errors.ts";
import { CLIPTokenizer } from "../../../pipeline/text/tokenizer.ts";
import { pocket } from "../../paths.ts";

const cases = parseEditCases(await Deno.readTextFile(`${pocket}/evaluation/edits.json`), "edits.json");

Deno.test("the embedded model's ten cases align, and no case preserves a prompt that it should change", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(await directoryTree(`${pocket}/tokenizer`));
  assertEquals(cases.length, 10);
  for (const { source, destination, related, unrelated, preserve } of cases) {
    alignPrompts(source, destination, tokenizer);
    for (const { prompt, edited } of [...related, ...unrelated]) alignPrompts(prompt, edited, tokenizer);
    assertEquals([related.length, unrelated.length, preserve.length], [5, 5, 13]);
    const changed = [source, ...related.map(({ prompt }) => prompt)];
    assert(!changed.some((prompt) => preserve.includes(prompt)));
    const unseen = unrelated.filter(({ prompt }) => !preserve.includes(prompt));
    assert(unseen.length > 0, `${destination} has no unrelated prompt that it does not preserve`);
  }
});

Deno.test("the embedded model's erasures do not draw what they preserve, nor name what they erase in another form", async () => {
  for (const name of ["guides", "erasures", "moderation"]) {
    const cases = parseEditCases(await Deno.readTextFile(`${pocket}/evaluation/${name}.json`), name);
    assertEquals([name, cases.length], [name, name === "moderation" ? 3 : 5]);
    for (const { source, destination, also, related, unrelated, preserve } of cases) {
      assertEquals(destination === "", name !== "guides");
      const erased = source.split(" ").at(-1)!;
      const forms = [...editedForms({ edited: destination, also }), ...related.flatMap(editedForms)];
      assert(forms.length > 0 && !forms.some((form) => form.split(" ").includes(erased)), forms.join());
      for (const { prompt } of related) assert(prompt.split(" ").includes(erased), prompt);
      for (const { prompt } of unrelated) assert(!prompt.split(" ").includes(erased), prompt);
      assert(!preserve.includes(source) && !related.some(({ prompt }) => preserve.includes(prompt)));
    }
  }
});

Deno.test("a case that erases its source says what may be shown instead", () => {
  const erase = { source: "a rose", destination: "", also: ["a cup", "a hat"], related: [], unrelated: [] };
  const [parsed] = parseEditCases(JSON.stringify([erase]), "x.json");
  assertEquals(editedForms({ edited: parsed.destination, also: parsed.also }), ["a cup", "a hat"]);
  assertEquals(editedForms({ edited: "a cup", also: ["a hat", "a cup"] }), ["a cup", "a hat"]);
  const { also: _, ...without } = erase;
  assertThrows(() => parseEditCases(JSON.stringify([without]), "x.json"), DataError, '"also" lists what may be shown');
});

Deno.test("limitCases() takes the first edits with their first prompts; without limits it takes all", () => {
  assertEquals(limitCases(cases, {}), cases);
  const few = limitCases(cases, { edits: 2, related: 1, unrelated: 0 });
  assertEquals(few.map(({ source }) => source), cases.slice(0, 2).map(({ source }) => source));
  assertEquals(few[1].related, [cases[1].related[0]]);
  assertEquals(few[1].unrelated, []);
  assertEquals(few[1].preserve, cases[1].preserve);
});

Deno.test("parseEditCases() names the field that is missing or has the wrong type", () => {
  const good = { source: "a rose", destination: "a blue rose", related: [], unrelated: [] };
  assertEquals(parseEditCases(JSON.stringify([good]), "x.json"), [{ ...good, preserve: [] }]);
  const wrong: [json: unknown, message: string][] = [
    [{}, "x.json as cases: it must be a list of at most 100000, not {}"],
    [[good, null], "[1] must be an object, not null"],
    [[{ ...good, source: "" }], "[0].source must be a string of 1 to 100000 characters, not"],
    [[{ ...good, related: "a rose" }], '[0].related must be a list of at most 10000, not "a rose"'],
    [[{ ...good, unrelated: [{ prompt: "a cat" }] }], "[0].unrelated[0].edited is missing"],
    [[{ ...good, preserve: [3] }], "[0].preserve[0] must be a string of 1 to 100000 characters, not 3"],
  ];
  for (const [json, message] of wrong) {
    assertThrows(() => parseEditCases(JSON.stringify(json), "x.json"), DataError, message);
  }
  assertThrows(() => parseEditCases("[", "x.json"), DataError, "it must be JSON");
});

Deno.test("editGrid() lists the unedited model, then each λ in ascending order, without and with preserved prompts", () => {
  assertEquals(editGrid([10, 0.1]), [
    { lamb: null, preserve: false },
    { lamb: 0.1, preserve: false },
    { lamb: 0.1, preserve: true },
    { lamb: 10, preserve: false },
    { lamb: 10, preserve: true },
  ]);
  assertEquals(
    picturesOfGrid(limitCases(cases, { edits: 2, related: 1, unrelated: 2 }), { lambdas: [0.1, 1], seeds: 3 }),
    120,
  );
});
