import { assertEquals, assertThrows } from "@std/assert";
import { parsePythonJson } from "../../../../pipeline/checkpoint/source/json.ts";

Deno.test("parsePythonJson() reads JSON and the numbers that only Python writes", () => {
  assertEquals(parsePythonJson('{"a":[1,null,"x"]}'), { a: [1, null, "x"] });
  assertEquals(parsePythonJson('{"a":-Infinity,"b":[Infinity,NaN]}'), { a: -Infinity, b: [Infinity, null] });
  assertEquals(parsePythonJson('{"NaN":"-Infinity \\" NaN","b":NaN}'), { NaN: '-Infinity " NaN', b: null });
});

Deno.test("parsePythonJson() rejects text that neither JSON nor Python's json module accepts", () => {
  for (const text of ["", "{", "{'a':1}", "Infinit", "[NaN", "--Infinity"]) {
    assertThrows(() => parsePythonJson(text), SyntaxError);
  }
});
