import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
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
    const { message } = await assertRejects(() => AppendedFile.open(path, wholeLines), OutputError);
    assertMatch(
      message,
      /another run is appending to it \(process \d+ on \S+ since 20[\d:TZ.-]+\): wait for it/,
    );
    assert(message.includes(`end it (kill ${Deno.pid} on ${Deno.hostname()}), or write to another file`), message);
  }
  assertEquals(namesIn(folder.path), []);
  await using _second = await AppendedFile.open(path, wholeLines);
});

Deno.test("the lock of a process that was killed keeps nobody out, and its note is taken over", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/results`;
  const program = `
    import { AppendedFile } from ${JSON.stringify(new URL("../../../pipeline/output/append.ts", import.meta.url).href)};
    const file = await AppendedFile.open(${JSON.stringify(path)}, () => 0);
    await file.append("ours 1\\n");
    console.log("holding");
    setInterval(() => {}, 1e6);
  `;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--config", `${import.meta.dirname}/../../../deno.json`, "-"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const input = child.stdin.getWriter();
  await input.write(new TextEncoder().encode(program));
  await input.close();
  for await (const _ of child.stdout) break;
  const held = await assertRejects(() => AppendedFile.open(path, wholeLines), OutputError);
  assert(
    /; last record at 20.*kill \d+ on /.test(held.message) && held.message.includes(`process ${child.pid} on `),
    held.message,
  );
  child.kill("SIGKILL");
  await child.status;
  assertEquals(namesIn(folder.path).length, 2, "results, and the note of the dead");
  {
    await using _file = await AppendedFile.open(path, wholeLines);
    const second = await assertRejects(() => AppendedFile.open(path, wholeLines), OutputError);
    assert(second.message.includes(`kill ${Deno.pid} on `), second.message);
  }
  assertEquals(namesIn(folder.path), ["results"]);
  assertEquals(await Deno.readTextFile(path), "ours 1\n");
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
