import { assertEquals } from "@std/assert";
import { PartialJson } from "../../cli/json_file.ts";
import { namesIn, temporaryFolder, textsIn } from "../pipeline/output/folders.ts";

Deno.test("what a killed run has left of a result stays; a run that ends removes its own only", async () => {
  await using folder = await temporaryFolder();
  const json = `${folder.path}/e.json`;
  await new PartialJson(json).write("first");
  await new PartialJson(json).write("second");
  const last = new PartialJson(json);
  await last.write("third");
  await last.write("third, further");
  assertEquals(textsIn(folder.path), {
    "e.partial-2.json": '"second"\n',
    "e.partial-3.json": '"third, further"\n',
    "e.partial.json": '"first"\n',
  });
  await last.remove();
  assertEquals(namesIn(folder.path), ["e.partial-2.json", "e.partial.json"]);
});
