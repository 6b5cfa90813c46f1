import { assert, assertEquals } from "@std/assert";
import { readEdit } from "../../pipeline/editing/edit_file.ts";
import { run, temporaryFolder } from "../cli/running.ts";
import { goldens } from "../paths.ts";
import { namesIn, textsIn } from "../pipeline/output/folders.ts";
import { dieAt } from "./crash.ts";

const csv = [
  "old,new,positive1,gt1,negative1,gn1",
  "A rose,A blue rose,a field of roses,a field of blue roses,a lemon,a blue lemon",
].join("\n");

Deno.test("sweep plan, killed at any change, leaves the old file; the next run cleans up", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("data.csv"), csv);
  const plan = ["sweep", "plan", "--data", at("data.csv"), "--seeds", "1", "-o", at("out/plan.json"), "--overwrite"];
  assertEquals((await run(...plan)).code, 0);
  const written = textsIn(at("out"));
  await Deno.writeTextFile(at("out/plan.json"), "old");
  let deaths = 0, strays = 0;
  for (;; deaths++) {
    const { wasKilled, code, err } = await dieAt(deaths + 1, "bluerose", ...plan);
    if (!wasKilled) {
      assertEquals(code, 0, err);
      break;
    }
    assertEquals(await Deno.readTextFile(at("out/plan.json")), "old");
    strays += namesIn(at("out")).length - 1;
  }
  assert(deaths >= 6 && strays > 0, `${deaths} deaths, ${strays} strays`);
  assertEquals(textsIn(at("out")), written);
});

Deno.test("edit, killed while it saves a model, leaves the old model or the new one, whole", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const model = `${goldens}/sd1-mini`;
  const edit = ["edit", "-m", model, "--source", "A rose", "--destination", "A blue rose", "--overwrite"];
  const saves = ["--save-edit", at("e.safetensors"), "--export-lora", at("l.safetensors"), "--save-model", at("saved")];
  await Deno.mkdir(at("saved"));
  await Deno.writeTextFile(at("saved/model_index.json"), "old");
  // Renames: the edit, the LoRA, the old model aside, the new model into place.
  const lora = await dieAt("rename=2", "bluerose", ...edit, ...saves);
  assert(lora.wasKilled, lora.err);
  await readEdit(at("e.safetensors"));
  assert(!namesIn(folder.path).includes("l.safetensors"));
  assertEquals(textsIn(at("saved")), { "model_index.json": "old" });
  const swap = await dieAt("rename=4", "bluerose", ...edit, ...saves);
  assert(swap.wasKilled, swap.err);
  assert(!namesIn(folder.path).includes("saved"), "died between the two renames");
  await run("inspect", at("saved")); // repairs what it is about to read
  assertEquals(textsIn(at("saved")), { "model_index.json": "old" });
  const done = await run(...edit, ...saves);
  assertEquals(done.code, 0, done.err);
  assertEquals(namesIn(folder.path), ["e.safetensors", "l.safetensors", "saved"]);
  assertEquals((await run("inspect", at("saved"))).code, 0);
});
