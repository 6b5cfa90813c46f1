import { assert, assertEquals, assertRejects } from "@std/assert";
import { OutputError } from "../../../pipeline/errors.ts";
import { beforeChange } from "../../../pipeline/output/disk.ts";
import { writeFileAtomically, writeText } from "../../../pipeline/output/file.ts";
import { checkOutput, checkOutputFolder } from "../../../pipeline/output/target.ts";
import { namesIn, temporaryFolder } from "./folders.ts";

/** Runs `body` while the `count`-th change of the disk fails with an error of the system. */
async function failingAt(count: number, code: string, body: () => Promise<void>): Promise<void> {
  let changes = 0;
  beforeChange.hook = () => {
    if (++changes === count) throw Object.assign(new Error(`${code} (os error 0)`), { code });
  };
  try {
    await body();
  } finally {
    beforeChange.hook = undefined;
  }
}

Deno.test("a file is replaced atomically; its permissions and links to it are kept; its folder is created", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/a/b/file.txt`;
  await writeText(path, "one");
  await Deno.chown(path, 12, 34).catch(() => {}); // only root may
  await Deno.chmod(path, 0o640);
  const { uid, gid } = await Deno.stat(path);
  await Deno.symlink("b/file.txt", `${folder.path}/a/link`);
  await Deno.symlink("not/yet.txt", `${folder.path}/a/dangling`);
  await writeText(`${folder.path}/a/link`, "two");
  await writeText(`${folder.path}/a/dangling`, "three");
  assertEquals(await Deno.readTextFile(path), "two");
  const kept = await Deno.stat(path);
  assertEquals([kept.mode! & 0o777, kept.uid, kept.gid], [0o640, uid, gid]);
  assertEquals(await Deno.readLink(`${folder.path}/a/link`), "b/file.txt");
  assertEquals(await Deno.readTextFile(`${folder.path}/a/not/yet.txt`), "three");
  assertEquals(namesIn(`${folder.path}/a`), ["b", "dangling", "link", "not"]);
  assertEquals(namesIn(`${folder.path}/a/b`), ["file.txt"]);
});

Deno.test("a file with the longest name that the system allows can be written", async () => {
  await using folder = await temporaryFolder();
  await writeText(`${folder.path}/${"é".repeat(125)}.json`, "x");
  await checkOutput(`${folder.path}/${"x".repeat(255)}`);
});

Deno.test("a path that cannot be a file is rejected by checking and by writing, with advice", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("file"), "mine");
  await Deno.mkdir(at("folder"));
  await new Deno.Command("mkfifo", { args: [at("fifo")] }).output();
  await Deno.symlink("loop", at("loop"));
  await Deno.symlink("fifo", at("to-fifo"));
  const cases: [path: string, says: string][] = [
    [at("folder"), "it is a folder: name a file in it"],
    [at("folder/"), "it is the name of a folder"],
    [at("new/"), "it is the name of a folder"],
    [at("fifo"), "a regular file is required"],
    [at("to-fifo"), "a regular file is required"],
    ["/dev/full", "a regular file is required"],
    [at("file/below"), "a part of its path is a file"],
    [at("file/below/further"), "a part of its path is a file"],
    [at("x".repeat(300)), "the name is too long"],
    [at(`${"x".repeat(300)}/y`), "the name is too long"],
    [at("loop"), "symbolic links lead in a circle"],
    ["/proc/none", "Cannot write /proc/none as"],
    ["/proc/none/none", "Cannot write /proc/none/none as"],
    ["", "without a name"],
  ];
  for (const [path, says] of cases) {
    for (const attempt of [checkOutput, (path: string) => writeText(path, "new")]) {
      const error = await assertRejects(() => attempt(path), OutputError, says);
      assertEquals(error.path, path);
    }
  }
  await assertRejects(() => checkOutputFolder(at("file")), OutputError, "a file is there");
  await assertRejects(() => checkOutputFolder(at("file/below")), OutputError, "a part of its path is a file");
  assertEquals(await Deno.readTextFile(at("file")), "mine");
  assertEquals(namesIn(folder.path), ["fifo", "file", "folder", "loop", "to-fifo"]);
});

Deno.test("checking neither creates nor changes the file", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/old`, "old");
  await checkOutput(`${folder.path}/old`);
  await checkOutput(`${folder.path}/sub/new`);
  await checkOutputFolder(`${folder.path}/model/deep`);
  assertEquals(namesIn(folder.path), ["model", "old", "sub"]);
  assertEquals(namesIn(`${folder.path}/sub`), []);
  assertEquals(await Deno.readTextFile(`${folder.path}/old`), "old");
});

Deno.test("each system error in each operation is an OutputError, and the old file is kept", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/file`;
  await writeText(path, "old");
  const codes = ["ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "EMFILE", "EIO", "EUNKNOWN"];
  let at = 1;
  for (;; at++) {
    const code = codes[at % codes.length];
    let isDone = false;
    await failingAt(at, code, async () => {
      const error = await writeText(path, "new").then(() => undefined, (error) => error);
      if (error === undefined) return void (isDone = true);
      assert(error instanceof OutputError, String(error));
      assert(error.message.startsWith(`Cannot write ${path} as `), error.message);
      assertEquals((error.cause as { code?: string }).code, code);
    });
    if (isDone) break;
    assertEquals(await Deno.readTextFile(path), "old", `operation ${at}`);
    assertEquals(namesIn(folder.path), ["file"], `operation ${at}`);
  }
  assert(at > 4, "create, write, sync, chmod and rename were to fail");
  assertEquals(await Deno.readTextFile(path), "new");
});

Deno.test("the producer's own error is rethrown, and no file is left", async () => {
  await using folder = await temporaryFolder();
  await assertRejects(
    () =>
      writeFileAtomically(`${folder.path}/file`, async (sink) => {
        await sink(new Uint8Array(10));
        throw new RangeError("mine");
      }),
    RangeError,
    "mine",
  );
  assertEquals(namesIn(folder.path), []);
});

Deno.test({
  name: "without permission to write, the error is an OutputError that names the permission",
  permissions: { read: true, write: false },
  fn: async () => {
    for (const attempt of [checkOutput, checkOutputFolder, (path: string) => writeText(path, "x")]) {
      await assertRejects(() => attempt("/tmp/bluerose-not-allowed"), OutputError, "--allow-write");
    }
  },
});

Deno.test("concurrent writers of one file leave one complete text and no temporary files", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/file`;
  const texts = Array.from({ length: 20 }, (_, i) => `${i}`.repeat(1000 + i));
  await Promise.all(texts.map((text) => writeText(path, text)));
  assert(texts.includes(await Deno.readTextFile(path)));
  assertEquals(namesIn(folder.path), ["file"]);
});
