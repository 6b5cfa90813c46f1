import { assertEquals, assertThrows } from "@std/assert";
import { parseEditPairs } from "../../../../pipeline/editing/prompts/pair_file.ts";
import { DataError } from "../../../../pipeline/errors.ts";

Deno.test("parseEditPairs() reads CSV with quotes, blank lines and spaces around cells, and JSON", () => {
  const rose = { source: "a rose, cut", destination: "a blue rose, cut", weight: 2 };
  const cat = { source: "a cat", destination: "a red cat" };
  const csv = '\uFEFFsource, destination, weight\n"a rose, cut", "a blue rose, cut", 2\n\na cat , a red cat,\n';
  assertEquals(parseEditPairs(csv, "pairs.csv"), [rose, cat]);
  assertEquals(parseEditPairs(JSON.stringify([rose, cat]), "pairs.JSON"), [rose, cat]);
  assertEquals(parseEditPairs("old,new\na cat,a red cat\n", "pairs.csv"), [cat]);
});

Deno.test("parseEditPairs() rejects malformed files, missing prompts and weights that are not positive", () => {
  const fails = (text: string, path: string, message: string) =>
    assertThrows(() => parseEditPairs(text, path), DataError, message);
  fails('source,destination\n"a,b\n', "x.csv", "Cannot read pairs from x.csv: ");
  fails("source,destination\na\n", "x.csv", "Cannot read pairs from x.csv: ");
  fails("{}", "x.json", "it must be a list of 1 to 100000, not {}");
  fails("[null]", "x.json", "[0] must be an object, not null");
  fails("source,destination\na,\n", "x.csv", "[0].destination must be a string of 1 to");
  fails("destination\na\n", "x.csv", "[0].source is missing");
  fails("source,destination,weight\na,b,0\n", "x.csv", "[0].weight must be a number above 0, not 0");
  fails("source,destination,weight\na,b,x\n", "x.csv", "[0].weight must be a number above 0, not NaN");
});

Deno.test("a JSON file of pairs takes several weighted destinations and alignments by hand", () => {
  const pairs = [
    { source: "a doctor", destination: [{ prompt: "a female doctor", weight: 0.5 }, { prompt: "a male doctor" }] },
    { source: "a cat", destination: "a dog", alignment: [[0, 0], [1, 1]] },
  ];
  assertEquals(JSON.parse(JSON.stringify(parseEditPairs(JSON.stringify(pairs), "pairs.json"))), pairs);
});
