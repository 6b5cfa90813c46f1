import { assertEquals, assertThrows } from "@std/assert";
import { ArgumentError } from "../../cli/arguments.ts";
import { pairsOfFile } from "../../cli/edit_pairs.ts";

Deno.test("pairsOfFile() reads CSV with quotes, blank lines and spaces around cells, and JSON", () => {
  const rose = { source: "a rose, cut", destination: "a blue rose, cut", weight: 2 };
  const cat = { source: "a cat", destination: "a red cat", weight: undefined };
  const csv = '\uFEFFsource, destination, weight\n"a rose, cut", "a blue rose, cut", 2\n\na cat , a red cat,\n';
  assertEquals(pairsOfFile(csv, "pairs.csv"), [rose, cat]);
  assertEquals(pairsOfFile(JSON.stringify([rose, cat]), "pairs.JSON"), [rose, cat]);
  assertEquals(pairsOfFile("old,new\na cat,a red cat\n", "pairs.csv"), [cat]);
});

Deno.test("pairsOfFile() rejects malformed files, missing prompts and weights that are not positive", () => {
  const fails = (text: string, path: string, message: string) =>
    assertThrows(() => pairsOfFile(text, path), ArgumentError, message);
  fails('source,destination\n"a,b\n', "x.csv", "Cannot read pairs from x.csv as ");
  fails("source,destination\na\n", "x.csv", "Cannot read pairs from x.csv as ");
  fails("{}", "x.json", "does not hold a list");
  fails("source,destination\na,\n", "x.csv", "pair 1 needs a source and a destination");
  fails("source,destination,weight\na,b,0\n", "x.csv", "the weight of pair 1 must be above 0");
});
