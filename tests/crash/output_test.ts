import { assert, assertEquals } from "@std/assert";
import { directoryTree } from "../../pipeline/checkpoint/source/disk.ts";
import { AppendedFile } from "../../pipeline/output/append.ts";
import { writeText } from "../../pipeline/output/file.ts";
import { namesIn, temporaryFolder, textsIn } from "../pipeline/output/folders.ts";
import { isTemporaryName } from "../../pipeline/output/temporary.ts";
import { dieAt, writeModel } from "./crash.ts";
import { momentsOf } from "./moments.ts";

/** Dies at each change in turn, until a run outlives all of them; returns how many there were. */
async function atEachChange(args: string[], afterwards: (count: number) => Promise<void>): Promise<number> {
  for (let count = 1;; count++) {
    const { wasKilled, code, err } = await dieAt(count, ...args);
    if (!wasKilled) {
      assertEquals(code, 0, err);
      return count - 1;
    }
    await afterwards(count);
  }
}

Deno.test("killed at any change, a file is the old one or the new one; the next write cleans up", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/file`;
  await Deno.writeTextFile(path, "old");
  let strays = 0;
  const changes = await atEachChange(["file", path, "new"], async (count) => {
    assertEquals(await Deno.readTextFile(path), "old", `change ${count}`);
    strays += namesIn(folder.path).length - 1;
  });
  assert(changes >= 5 && strays > 0, `${changes} changes, ${strays} strays`);
  assertEquals(textsIn(folder.path), { file: "new" });
});

Deno.test("killed at any change, a folder is the old one or the new one; the next load repairs it", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/model`;
  const old = { "README.md": "mine", "model_index.json": "old", "unet/config.json": "old", "unet/old.bin": "old" };
  const made = { "README.md": "mine", "model_index.json": "new", "unet/config.json": "new" };
  const reset = async () => {
    for (const name of namesIn(folder.path)) await Deno.remove(`${folder.path}/${name}`, { recursive: true });
    for (const [name, text] of Object.entries(old)) await writeText(`${path}/${name}`, text);
  };
  // What the disk holds before each change, as writers_test.ts looks at it.
  await reset();
  const { moments, versions } = await momentsOf(folder.path, () => writeModel(path, "new"), () => false);
  const textOf = (digest: string) => new TextDecoder().decode(versions.get(digest)!.bytes);
  const expected = moments.map(({ files }) => Object.fromEntries([...files].map(([at, each]) => [at, textOf(each)])));
  await reset();
  let repaired = 0, news = 0;
  const changes = await atEachChange(["folder", path, "new"], async (count) => {
    assertEquals(textsInPlace(folder.path), expected[count - 1], `a real death before change ${count}`);
    if (!namesIn(folder.path).includes("model")) repaired++;
    const tree = await directoryTree(path);
    const texts = textsIn(path);
    if (texts["model_index.json"] === "new") news++;
    assertEquals(texts, texts["model_index.json"] === "new" ? made : old, `change ${count}`);
    assertEquals((await tree.list()).length, 3);
    await reset();
  });
  assertEquals(changes, moments.length);
  assert(changes > 10 && repaired === 1 && news > 0, `${changes} changes, ${repaired} repaired, ${news} new`);
  assertEquals(textsIn(folder.path), Object.fromEntries(Object.entries(made).map(([k, v]) => [`model/${k}`, v])));
});

/** The texts of files in their places: temporaries are left out. */
function textsInPlace(folder: string): Record<string, string> {
  const isInPlace = (path: string) => !path.split("/").some(isTemporaryName);
  return Object.fromEntries(Object.entries(textsIn(folder)).filter(([path]) => isInPlace(path)));
}

Deno.test("killed at any change, a results file has whole records after the next opening", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/results`;
  const changes = await atEachChange(["append", path, "record"], async () => {
    await using _file = await AppendedFile.open(path, (bytes) => bytes.lastIndexOf(10) + 1);
    assert(/^(record\n)*$/.test(await Deno.readTextFile(path)));
  });
  assert(changes >= 3, `${changes}`);
});
