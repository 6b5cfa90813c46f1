import { assertRejects } from "@std/assert";
import type { ModelOrigin } from "../../pipeline/checkpoint/source/origin.ts";
import { CheckpointError } from "../../pipeline/errors.ts";
import { writeText } from "../../pipeline/output/file.ts";
import { refuseOwnSource, refuseSourceFile } from "../../pipeline/saving_place.ts";
import { temporaryFolder } from "./output/folders.ts";

/** A model that is read from a file or folder. */
function readFrom(name: string): { origin: ModelOrigin } {
  return { origin: { name, config: {}, openWeights: () => Promise.reject(new Error("not asked for")) } };
}

Deno.test("a place is refused that a model is read from, lies in or holds, through links, too", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await writeText(at("models/a/model_index.json"), "{}");
  await writeText(at("models/a/unet/weights.safetensors"), "");
  await writeText(at("models/single.safetensors"), "");
  await writeText(at("alone/unet/weights.safetensors"), "");
  await writeText(at("blobs/0123"), "");
  await Deno.mkdir(at("snapshot/unet"), { recursive: true });
  await Deno.symlink("../../blobs/0123", at("snapshot/unet/weights.safetensors"));
  await Deno.symlink("models/a", at("link"));
  await Deno.symlink("models/single.safetensors", at("link.safetensors"));
  await Deno.symlink("models/a/new", at("dangling"));
  const refused: [source: string, place: string][] = [
    ["models/a/unet", "models/a"],
    ["models/a/unet", "models/a/"],
    ["models/a/unet", "models"],
    ["models/a/unet", "models/a/unet"],
    ["models/a/unet", "models/a/unet/new"],
    ["models/a/unet", "models/a/new"],
    ["models/a/unet", "models/a/new/deeper"],
    ["models/a/unet", "models/b/../a"],
    ["models/a/unet", "link"],
    ["models/a/unet", "link/new"],
    ["models/a/unet", "dangling"],
    ["models/a/unet", "models/a/new.safetensors"],
    ["models/a/unet", "models/a/unet/weights.safetensors"],
    ["link/unet", "models/a"],
    ["models/single.safetensors", "models/single.safetensors"],
    ["models/single.safetensors", "link.safetensors"],
    ["link.safetensors", "models/single.safetensors"],
    ["models/single.safetensors", "models"],
    ["models/single.safetensors", "models/single.safetensors/new"],
    ["snapshot/unet", "blobs/0123"],
  ];
  for (const [source, place] of refused) {
    await assertRejects(
      () => refuseOwnSource([readFrom(at(source))], at(place)),
      CheckpointError,
      "weights are read from there",
      `${source} → ${place}`,
    );
  }
  const taken: [source: string, place: string][] = [
    ["models/a/unet", "models/b"],
    ["models/a/unet", "models/a2"],
    ["models/a/unet", "models/ab/new"],
    ["alone/unet", "alone/new"],
    ["models/single.safetensors", "models/other.safetensors"],
    ["models/single.safetensors", "models/new"],
    ["nowhere", "nowhere"], // a tree in memory may have any name
  ];
  for (const [source, place] of taken) await refuseOwnSource([readFrom(at(source))], at(place));
  await refuseOwnSource([{}], at("models/a"));
});

Deno.test("an edit or LoRA is not written over a file that the model is read from, but beside it", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await writeText(at("a/unet/weights.safetensors"), "");
  await writeText(at("single.safetensors"), "");
  await Deno.symlink("a/unet/weights.safetensors", at("link.safetensors"));
  const models = [readFrom(at("a/unet")), readFrom(at("single.safetensors")), {}, undefined];
  for (const name of ["a/unet/weights.safetensors", "link.safetensors", "single.safetensors"]) {
    await assertRejects(() => refuseSourceFile(models, at(name)), CheckpointError, "choose another name");
  }
  for (const name of ["a/unet/edit.safetensors", "a/edit.safetensors", "edit.safetensors"]) {
    await refuseSourceFile(models, at(name));
  }
});
