import { assertEquals, assertRejects } from "@std/assert";
import { exists, filesBelow, infoAt, isFile, textAt } from "../../../pipeline/output/paths.ts";
import { temporaryFolder } from "./folders.ts";

Deno.test("nothing is at a path that cannot be one; what is there is told by its kind", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("file"), "text");
  await Deno.symlink("circle", at("circle"));
  for (const path of ["", at("missing"), at("file/below"), at("x".repeat(300)), at("circle"), at("a\0b")]) {
    assertEquals([await infoAt(path), await exists(path), await textAt(path)], [undefined, false, undefined], path);
    if (path !== "") assertEquals(await filesBelow(path), []);
  }
  assertEquals([await isFile(at("file")), await isFile(folder.path), await exists(folder.path)], [true, false, true]);
  assertEquals([await textAt(at("file")), await textAt(folder.path)], ["text", undefined]);
});

Deno.test("what may not be looked at is not said to be missing", { permissions: { read: false } }, async () => {
  for (const look of [infoAt, exists, isFile, textAt, filesBelow]) {
    await assertRejects(() => look("models"), Deno.errors.NotCapable);
  }
});
