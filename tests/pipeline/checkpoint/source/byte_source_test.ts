import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { blobSource, bytesSource, readAll } from "../../../../pipeline/checkpoint/source/byte_source.ts";
import { checkPath, type FileTree, memoryTree } from "../../../../pipeline/checkpoint/source/file_tree.ts";
import { directoryTree, fileSource, openTree } from "../../../../pipeline/checkpoint/source/disk.ts";
import { CheckpointError, PathError } from "../../../../pipeline/errors.ts";

const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("bytes, a blob and a file read the same ranges, also when reads overlap in time", async () => {
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/a.bin`, bytes);
    const sources = [bytesSource(bytes, "bytes"), blobSource(new Blob([bytes])), await fileSource(`${folder}/a.bin`)];
    for (const source of sources) {
      assertEquals(source.size, 1000);
      assertEquals(await readAll(source), bytes);
      const parts = await Promise.all([900, 0, 500, 250, 999].map((offset) => source.read(offset, 1)));
      assertEquals(parts.map((part) => part[0]), [900 % 251, 0, 500 % 251, 250, 999 % 251]);
      for (const [offset, length] of [[999, 2], [-1, 1], [0, -1], [0.5, 1], [0, NaN]]) {
        await assertRejects(() => source.read(offset, length), CheckpointError, "has 1000 bytes");
      }
      source.close?.();
    }
  });
});

Deno.test("pipes, devices and folders are rejected at once as not being files", async () => {
  await withFolder(async (folder) => {
    const pipe = `${folder}/pipe.safetensors`;
    const made = await new Deno.Command("mkfifo", { args: [pipe] }).output().then(
      ({ success }) => success,
      () => false,
    );
    for (const path of made ? [pipe, "/dev/zero", folder] : [folder]) {
      await assertRejects(() => fileSource(path), CheckpointError, "it is not a file");
    }
  });
});

Deno.test("a text file that is too large is rejected before it is read", async () => {
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/config.json`, new Uint8Array(1));
    await Deno.truncate(`${folder}/config.json`, 2 ** 40); // sparse
    const tree = await directoryTree(folder);
    await assertRejects(() => tree.readJson("config.json"), CheckpointError, "a text file may have");
  });
});

Deno.test("reading a file that was truncated after opening is an error, not a short array", async () => {
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/a.bin`, bytes);
    const source = await fileSource(`${folder}/a.bin`);
    await Deno.truncate(`${folder}/a.bin`, 10);
    await assertRejects(() => source.read(0, 1000), CheckpointError, "ended after 10");
    // an earlier failure does not stop later reads
    assertEquals((await source.read(0, 10)).length, 10);
    source.close?.();
  });
});

Deno.test("fileSource() rejects missing files and folders, and names them", async () => {
  await withFolder(async (folder) => {
    await assertRejects(() => fileSource(`${folder}/none`), CheckpointError, "there is no such file");
    await assertRejects(() => fileSource(folder), CheckpointError, "not a file");
    await assertRejects(() => directoryTree(`${folder}/none`), CheckpointError, "there is no such folder");
  });
});

Deno.test("checkPath() keeps paths inside their folder", () => {
  assertEquals(checkPath("unet/./config.json", "m"), "unet/config.json");
  assertEquals(checkPath("..safe", "m"), "..safe");
  for (const path of ["../x", "a/../x", "a/..", "/etc/x", "", ".", "a//b", "a\\..\\b", "C:/x", "a\0b", "a/"]) {
    const error = assertThrows(
      () => checkPath(path, "m"),
      PathError,
      "stay inside their folder",
    ) as unknown as PathError;
    assertEquals(error.path, path);
  }
});

async function checkTree(tree: FileTree): Promise<void> {
  assert(await tree.has("unet/config.json"));
  assert(!await tree.has("unet"));
  assert(!await tree.has("unet/none.json"));
  assertEquals(await tree.list(), ["readme.txt", "unet/"]);
  assertEquals(await tree.list("unet"), ["config.json", "deep/"]);
  assertEquals(await tree.readJson("unet/config.json"), { a: 1 });
  assertEquals(await tree.readText("readme.txt"), "é");
  const unet = tree.subtree("unet");
  assertEquals(unet.name, `${tree.name}/unet`);
  assertEquals(await unet.list(), ["config.json", "deep/"]);
  assertEquals(await unet.subtree("deep").readText("x"), "x");
  const source = await unet.open("config.json");
  assertEquals(source.name, `${tree.name}/unet/config.json`);
  source.close?.();
  for (const attempt of [() => unet.has("../readme.txt"), () => tree.open("/etc/passwd"), () => tree.list("../x")]) {
    await assertRejects(attempt, PathError);
  }
  await assertRejects(() => tree.readJson("readme.txt"), CheckpointError, "must be JSON");
  await assertRejects(() => tree.readText("none"), CheckpointError, "there is no such file");
  await assertRejects(() => unet.subtree("deep").readText("bad"), CheckpointError, "UTF-8");
}

const files = {
  "readme.txt": new TextEncoder().encode("é"),
  "unet/config.json": new TextEncoder().encode('{"a":1}'),
  "unet/deep/x": new Blob(["x"]),
  "unet/deep/bad": Uint8Array.of(0xff),
};

Deno.test("a tree in memory reads, lists, and rejects paths that leave it", async () => {
  await checkTree(memoryTree(files, "memory"));
});

Deno.test("a tree on disk reads, lists, and rejects paths that leave it, also through symbolic links", async () => {
  await withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/tree/unet`, { recursive: true });
    await Deno.mkdir(`${folder}/elsewhere`);
    await Deno.writeFile(`${folder}/blob`, files["unet/config.json"]);
    await Deno.symlink(`${folder}/blob`, `${folder}/tree/unet/config.json`);
    await Deno.symlink(`${folder}/elsewhere`, `${folder}/tree/unet/deep`);
    await Deno.writeTextFile(`${folder}/elsewhere/x`, "x");
    await Deno.writeFile(`${folder}/elsewhere/bad`, files["unet/deep/bad"]);
    await Deno.writeTextFile(`${folder}/tree/readme.txt`, "é");
    await checkTree(await openTree(`${folder}/tree/`));
  });
});
