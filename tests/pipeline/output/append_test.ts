import { assertEquals, assertRejects } from "@std/assert";
import { OutputError } from "../../../pipeline/errors.ts";
import { AppendedFile } from "../../../pipeline/output/append.ts";
import { beforeChange } from "../../../pipeline/output/disk.ts";
import { namesIn, temporaryFolder } from "./folders.ts";

/** Takes lines that begin with "ours". */
function wholeLines(bytes: Uint8Array): number {
  const text = new TextDecoder().decode(bytes);
  if (text !== "" && !text.startsWith("ours")) throw new Error("foreign");
  return text.lastIndexOf("\n") + 1;
}

Deno.test("records are appended after the last complete one; another program's file is not changed", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/results`;
  {
    await using file = await AppendedFile.open(path, wholeLines);
    await file.append("ours 1\n");
  }
  await Deno.writeTextFile(path, "ours 2 is cut", { append: true });
  {
    await using file = await AppendedFile.open(path, wholeLines);
    await file.append("ours 3\n");
  }
  assertEquals(await Deno.readTextFile(path), "ours 1\nours 3\n");
  await Deno.writeTextFile(path, "foreign");
  await assertRejects(() => AppendedFile.open(path, wholeLines), Error, "foreign");
  assertEquals(await Deno.readTextFile(path), "foreign");
});

Deno.test("a second run is rejected while the first appends, and accepted afterwards", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/results`;
  {
    await using _first = await AppendedFile.open(path, wholeLines);
    await assertRejects(() => AppendedFile.open(path, wholeLines), OutputError, "another run is appending to it");
  }
  await using _second = await AppendedFile.open(path, wholeLines);
});

Deno.test("a file that gets no record is removed if it was created for it, and stays if it was there", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/results`;
  const open = async () => {
    await using _file = await AppendedFile.open(path, wholeLines);
  };
  await open();
  assertEquals(namesIn(folder.path), []);
  await Deno.writeTextFile(path, "");
  await open();
  assertEquals(namesIn(folder.path), ["results"]);
});

Deno.test("a record that fails midway is removed", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/results`;
  await using file = await AppendedFile.open(path, wholeLines);
  await file.append("ours 1\n");
  beforeChange.hook = (change) => {
    if (change === "sync") throw Object.assign(new Error("full"), { code: "ENOSPC" });
  };
  try {
    await assertRejects(() => file.append("ours 2\n"), OutputError, "the disk is full");
  } finally {
    beforeChange.hook = undefined;
  }
  await file.append("ours 3\n");
  assertEquals(await Deno.readTextFile(path), "ours 1\nours 3\n");
});
