import { assert, assertEquals, assertRejects } from "@std/assert";
import { directoryTree, fileSource } from "../../../../pipeline/checkpoint/source/disk.ts";
import { openModelSource } from "../../../../pipeline/checkpoint/source/model_source.ts";
import { CheckpointError } from "../../../../pipeline/errors.ts";
import { pocket } from "../../../paths.ts";

const denied = { read: false, net: false } as const;

Deno.test("without permission to read, nothing is said to be missing", { permissions: denied }, async () => {
  for (
    const open of [
      () => directoryTree("models/pocket"),
      () => fileSource("models/x.safetensors"),
      () => openModelSource("models/pocket"),
      () => openModelSource("owner/name"), // a folder of that name may exist: the hub is not asked
    ]
  ) {
    const { message } = await assertRejects(open, CheckpointError);
    assert(message.includes("Deno was not permitted to read it") && message.includes("--allow-read"), message);
    assert(!message.includes("no such"), message);
  }
});

const onlyConfigs: Deno.PermissionOptions = { read: [`${pocket}/model_index.json`, `${pocket}/unet`], net: false };

Deno.test("a file that may not be looked at is not taken for missing", { permissions: onlyConfigs }, async () => {
  const tree = await directoryTree(`${pocket}/unet`);
  assertEquals(await tree.has("config.json"), true);
  assertEquals(await tree.has("missing.json"), false);
  await assertRejects(() => directoryTree(`${pocket}/vae`), CheckpointError, "Deno was not permitted");
});
