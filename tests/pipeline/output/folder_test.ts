import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { CheckpointError, OutputError } from "../../../pipeline/errors.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import { beforeChange } from "../../../pipeline/output/disk.ts";
import { type FolderWriter, repairFolder, writeFolderAtomically } from "../../../pipeline/output/folder.ts";
import { withLock } from "../../../pipeline/output/lock.ts";
import { writeText } from "../../../pipeline/output/file.ts";
import { checkOutputFolder } from "../../../pipeline/output/target.ts";
import { namesIn, temporaryFolder, textsIn } from "./folders.ts";
import { runDeno } from "../../run_deno.ts";

const overwrite = { overwrite: true };

function model(text: string): (folder: FolderWriter) => Promise<void> {
  return async (folder) => {
    await folder.writeText("unet/config.json", text);
    await folder.writeText("model_index.json", text);
  };
}

Deno.test("a replaced folder keeps what only the old one held: files, folders, links, permissions", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/model`;
  await writeFolderAtomically(path, {}, model("old"));
  await writeText(`${path}/notes/deep/mine.txt`, "mine");
  await writeText(`${path}/unet/gone.txt`, "of the old unet");
  await Deno.symlink("notes/deep", `${path}/link`);
  await Deno.chmod(path, 0o750);
  await Deno.symlink("model", `${folder.path}/alias`);
  await assertRejects(() => writeFolderAtomically(path, {}, model("new")), CheckpointError, "choose another place");
  await writeFolderAtomically(`${folder.path}/alias/`, overwrite, model("new"));
  assertEquals(await Deno.readTextFile(`${path}/link/mine.txt`), "mine");
  await Deno.remove(`${path}/link`);
  assertEquals(textsIn(path), { "model_index.json": "new", "notes/deep/mine.txt": "mine", "unet/config.json": "new" });
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o750);
  assertEquals(await Deno.readLink(`${folder.path}/alias`), "model");
  assertEquals(namesIn(folder.path), ["alias", "model"]);
});

Deno.test("of two saves to one folder, one is refused; afterwards the folder is free", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/model`;
  const saves = await Promise.allSettled(["a", "b"].map((text) => writeFolderAtomically(path, overwrite, model(text))));
  const [refused, ...others] = saves.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
  assertEquals(others, []);
  assert(refused.reason instanceof OutputError && refused.reason.message.includes("is saving to it"));
  const texts = Object.values(textsIn(path));
  assert(texts.length === 2 && texts[0] === texts[1], texts.join());
  await writeFolderAtomically(path, overwrite, async (writer) => {
    const { message } = await assertRejects(() => writeFolderAtomically(path, overwrite, model("d")), OutputError);
    assertMatch(
      message,
      new RegExp(`another run \\(process ${Deno.pid} on \\S+ since 20[^)]*\\) is saving to it: .*end it`),
    );
    await model("c")(writer);
  });
  assertEquals(Object.values(textsIn(folder.path)), ["c", "c"]);
});

Deno.test("a failure at any change leaves the old folder, and no trace", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/model`;
  await writeFolderAtomically(path, {}, model("old"));
  await writeText(`${path}/README.md`, "mine");
  const before = textsIn(folder.path);
  let failures = 0;
  for (let at = 1;; at++) {
    let changes = 0;
    beforeChange.hook = (change) => {
      // Removals are the clean-up, which cannot be relied on where they fail.
      if (change !== "remove" && ++changes === at) {
        throw Object.assign(new Error("no space (os error 28)"), { code: "ENOSPC" });
      }
    };
    let error: unknown;
    try {
      await writeFolderAtomically(path, overwrite, model("new"));
    } catch (caught) {
      error = caught;
    } finally {
      beforeChange.hook = undefined;
    }
    if (error === undefined) break;
    failures++;
    assert(error instanceof OutputError && error.message.includes("the disk is full"), String(error));
    assertEquals(textsIn(folder.path), before, `change ${at}`);
  }
  assert(failures > 10, `${failures}`);
  assertEquals(textsIn(folder.path), {
    "model/README.md": "mine",
    "model/model_index.json": "new",
    "model/unet/config.json": "new",
  });
});

Deno.test("the working folder, those that hold it and mount points are not replaced", async () => {
  await using folder = await temporaryFolder();
  const cwd = `${folder.path}/work/deep`;
  await Deno.mkdir(cwd, { recursive: true });
  const at = (path: string) => new URL(path, import.meta.url).pathname;
  const paths = [".", "..", `${folder.path}/work`, "../deep/"];
  const flags = ["-q", "-P=test", "--no-prompt", `--config=${at("../../../deno.json")}`];
  const { out, err } = await runDeno(["run", ...flags, at("working_folder.ts"), ...paths], { cwd });
  assertEquals(err, "");
  const errors: string[] = JSON.parse(out);
  assertEquals(errors.length, 2 * paths.length);
  for (const error of errors) assertMatch(error, /^OutputError: .*working folder/);
  assertEquals(textsIn(folder.path), { "work/deep/inside/new.txt": "new" });
  await assertRejects(() => checkOutputFolder("/"), OutputError, "mount point");
});

Deno.test("a folder can be loaded at any moment of its replacement", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/model`;
  const loads: Promise<unknown>[] = [];
  await writeFolderAtomically(path, {}, model("old"));
  beforeChange.hook = () => void loads.push(directoryTree(path));
  try {
    for (let i = 0; i < 5; i++) await writeFolderAtomically(path, overwrite, model(`${i}`));
  } finally {
    beforeChange.hook = undefined;
  }
  for (const { status } of await Promise.allSettled(loads)) {
    assertEquals(status, "fulfilled");
  }
  assert(loads.length > 50);
});

Deno.test("a repair touches nothing that is not the folder's own replacement", async () => {
  await using folder = await temporaryFolder();
  const stray = `${folder.path}/.bluerose-1-0123abcd.tmp`;
  await writeText(`${stray}/old/model_index.json`, "another model");
  await writeText(`${stray}/target`, "another");
  await writeText(`${folder.path}/mine.tmp/old/a`, "mine");
  await writeText(`${folder.path}/mine.tmp/target`, "model");
  await repairFolder(`${folder.path}/model`);
  assertEquals(namesIn(folder.path), [".bluerose-1-0123abcd.tmp", "mine.tmp"]);
  await repairFolder(`${folder.path}/another`);
  assertEquals(namesIn(folder.path), ["another", "mine.tmp"]);
  assertEquals(await Deno.readTextFile(`${folder.path}/another/model_index.json`), "another model");
});

Deno.test(
  "pipes under the names of temporaries are not waited for",
  { ignore: Deno.build.os === "windows" },
  async () => {
    await using folder = await temporaryFolder();
    const at = (name: string) => `${folder.path}/${name}`;
    const [file, stage] = [at(".bluerose-1-aaaaaaaa.tmp"), at(".bluerose-2-bbbbbbbb.tmp")];
    await Deno.mkdir(`${stage}/old`, { recursive: true });
    const pipes = [file, `${stage}/lock`, `${stage}/target`];
    assertEquals((await new Deno.Command("mkfifo", { args: pipes }).output()).code, 0);
    await repairFolder(at("model"));
    await writeText(at("file"), "whole");
    assertEquals(await Deno.readTextFile(at("file")), "whole");
  },
);

Deno.test("a repair never leaves the folder that holds the temporary", async () => {
  await using folder = await temporaryFolder();
  for (const name of ["../outside", "..", ".", "/etc/x", ""]) {
    const inner = `${folder.path}/inner`;
    await writeText(`${inner}/.bluerose-1-0123abcd.tmp/old/a`, "x");
    await writeText(`${inner}/.bluerose-1-0123abcd.tmp/target`, name);
    await repairFolder(`${inner}/outside`);
    await repairFolder(`${folder.path}/outside`);
    assertEquals(namesIn(folder.path), ["inner"]);
    await Deno.remove(inner, { recursive: true });
  }
});

Deno.test("what a lock guards runs one at a time, and the lock leaves no file", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/count`;
  await writeText(path, "0");
  await Promise.all(Array.from({ length: 10 }, () =>
    withLock(path, async () => {
      const count = Number(await Deno.readTextFile(path));
      await new Promise((resolve) => setTimeout(resolve, 1));
      await writeText(path, `${count + 1}`);
    })));
  assertEquals(textsIn(folder.path), { count: "10" });
});
