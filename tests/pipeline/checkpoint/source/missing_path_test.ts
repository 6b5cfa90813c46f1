import { assert, assertEquals, assertRejects } from "@std/assert";
import { fileSource, isPlainlyLocal } from "../../../../pipeline/checkpoint/source/disk.ts";
import { openModelSource } from "../../../../pipeline/checkpoint/source/model_source.ts";
import { CheckpointError, HubError } from "../../../../pipeline/errors.ts";
import { temporaryFolder } from "../../output/folders.ts";
import { pocket } from "../../../paths.ts";
import { runDeno } from "../../../run_deno.ts";

/** A hub that answers nothing: reaching it is an error of another class. */
const nowhere = { endpoint: "http://127.0.0.1:1", cacheDir: "/nonexistent", retries: 0 };

Deno.test("a mistyped path is told as such, with its nearest neighbor, and the hub is not asked", async () => {
  const parent = pocket.replace(/\/pocket$/, "");
  const paths: [path: string, said: string][] = [
    [`${parent}/pocke`, `did you mean ${parent}/pocket?`],
    [`${pocket}/unett`, `did you mean ${pocket}/unet?`],
    ["./nowhere-at-all", "no such folder"],
    ["../nowhere", "no such folder"],
    ["~/models/x", "no such folder"],
    ["C:\\models\\sd", "no such folder"],
    ["C:/models", "no such folder"],
    ["some/where/deep", "no such folder"],
    ["owner/model.safetensors", "no such folder"],
    ["owner/", "no such folder"],
  ];
  for (const [path, said] of paths) {
    const error = await assertRejects(() => openModelSource(path, nowhere), CheckpointError, said);
    assert(!(error instanceof HubError), error.message);
    assert(error.message.includes(path.replace(/\/$/, "")), error.message);
  }
  const error = await assertRejects(() => openModelSource("owner/model", nowhere), CheckpointError);
  assert(error instanceof HubError, error.message);
});

Deno.test("a name below a folder that is here is a path; OWNER/NAME is a model on the hub", async () => {
  const [folder] = pocket.split("/").slice(-2); // models, seen from the repository
  assertEquals(await isPlainlyLocal(`${folder}/typo`), true);
  assertEquals(await isPlainlyLocal("stabilityai/stable-diffusion-2"), false);
  assertEquals(await isPlainlyLocal("gpt2"), false);
});

Deno.test("a missing file names its nearest neighbor; a folder is no file", async () => {
  await assertRejects(
    () => fileSource(`${pocket}/model_indx.json`),
    CheckpointError,
    `there is no such file: did you mean ${pocket}/model_index.json?`,
  );
  await using folder = await temporaryFolder();
  const link = `${folder.path}/model.safetensors`;
  await Deno.symlink(`${folder.path}/gone`, link);
  await assertRejects(() => fileSource(link), CheckpointError, "no such file: a link of this name leads to nothing");
  await Deno.symlink(`${folder.path}/gone`, `${folder.path}/model`);
  await assertRejects(() => openModelSource(`${folder.path}/model`), CheckpointError, "a link of this name leads");
  await assertRejects(() => fileSource(pocket), CheckpointError, "it is not a file");
  await assertRejects(() => openModelSource(`${pocket}/model_index.json`), CheckpointError, "a folder is wanted");
});

Deno.test("without Deno's file system a path is refused with what to pass instead", async () => {
  const program = `
    const { openModelSource } = await import(${
    JSON.stringify(new URL("../../../../pipeline/checkpoint/source/model_source.ts", import.meta.url).href)
  });
    const { fileSource } = await import(${
    JSON.stringify(new URL("../../../../pipeline/checkpoint/source/disk.ts", import.meta.url).href)
  });
    const say = console.log;
    delete globalThis.Deno;
    delete globalThis.process; // Node's, which Deno has too
    for (const open of [() => openModelSource("owner/model"), () => fileSource("a.safetensors")]) {
      await open().catch((error) => say(error.name + ": " + error.message));
    }
  `;
  const { out, err } = await runDeno(["eval", "--no-check", program]);
  const lines = out.trim().split("\n");
  assertEquals(lines.length, 2, err);
  for (const line of lines) assert(/^CheckpointError: Cannot read .*memoryTree/.test(line), line);
});
