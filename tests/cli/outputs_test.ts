import { assert, assertEquals, assertRejects } from "@std/assert";
import { ArgumentError } from "../../cli/argument_error.ts";
import { checkDistinct, checkNewFile, checkNewFolder } from "../../cli/files.ts";
import { PartialJson } from "../../cli/json_file.ts";
import { forgetKept, keep, keptText } from "../../cli/kept.ts";
import { checkPictures, FreeNames } from "../../cli/output_names.ts";
import { Parts } from "../../cli/parts.ts";
import { OutputError } from "../../pipeline/errors.ts";
import { ImageError } from "../../pipeline/image/errors.ts";
import { namesIn, textsIn } from "../pipeline/output/folders.ts";
import { run, temporaryFolder } from "./running.ts";

const overwrite = { overwrite: true };
const keepOld = { overwrite: false };

Deno.test("two runs that write to the same names at the same time lose no picture", async () => {
  await using folder = await temporaryFolder();
  const wanted = `${folder.path}/rose.png`;
  const texts = Array.from({ length: 20 }, (_, i) => `picture ${i}`);
  const runs = [new FreeNames(keepOld), new FreeNames(keepOld)];
  const names = await Promise.all(texts.map((text, i) => runs[i % 2].write(wanted, new TextEncoder().encode(text))));
  assertEquals(new Set(names).size, texts.length);
  assertEquals(Object.values(textsIn(folder.path)).sort(), texts.toSorted());
  const replaced = await new FreeNames(overwrite).write(wanted, new TextEncoder().encode("new"));
  assertEquals([replaced, await Deno.readTextFile(wanted)], [wanted, "new"]);
});

Deno.test("parts of a grid are kept until it is written, beside those of an earlier run", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const picture = { data: new Uint8Array(12), width: 2, height: 2 };
  forgetKept();
  const failed = await Parts.beside(at("grid.png"));
  await failed.add("1", picture, {});
  assertEquals(keptText(), `Kept: ${at("grid.parts/1.png")}`);
  const parts = await Parts.beside(at("grid.png"));
  await parts.add("1", picture, {});
  await parts.add("2", picture, {});
  assertEquals(namesIn(at("grid_1.parts")), ["1.png", "2.png"]);
  await parts.replaceBy(at("grid.png"));
  assertEquals(namesIn(folder.path), ["grid.parts"]);
  assertEquals(keptText(), `Kept: ${at("grid.parts/1.png")}, ${at("grid.png")}`);
  forgetKept();
  for (let i = 0; i < 6; i++) keep(`${i}`);
  assertEquals(keptText(), "Kept: 0, 1, 2, 3 and 2 more, the last 5");
  forgetKept();
  assertEquals(keptText(), undefined);
});

Deno.test("a result that is not whole lies beside its file until the whole is written", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/r.json`, "old");
  const partial = new PartialJson(`${folder.path}/r.json`);
  await partial.write([1]);
  await partial.write([1, 2]);
  assertEquals(JSON.parse(textsIn(folder.path)["r.partial.json"]), [1, 2]);
  assertEquals(textsIn(folder.path)["r.json"], "old");
  await partial.remove();
  assertEquals(namesIn(folder.path), ["r.json"]);
  await new PartialJson("-").write([1]);
  await new PartialJson(undefined).remove();
  forgetKept();
});

Deno.test("outputs are checked before the work: taken, unwritable, no picture's, the same twice", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("file"), "mine");
  await Deno.writeTextFile(at("empty"), "");
  await Deno.mkdir(at("full/inner"), { recursive: true });
  await Deno.mkdir(at("none"));
  await Deno.symlink("file", at("link"));
  await assertRejects(() => checkNewFile(at("file"), "--json", keepOld), ArgumentError, "add --overwrite");
  await assertRejects(() => checkNewFile(at("link"), "--json", keepOld), ArgumentError, "add --overwrite");
  await assertRejects(() => checkNewFile(at("full"), "--json", keepOld), OutputError, "it is a folder");
  await assertRejects(() => checkNewFile(at("file/x"), "--json", keepOld), OutputError, "a part of its path is a file");
  await assertRejects(() => checkNewFolder(at("full"), "--save-model", keepOld), ArgumentError, "add --overwrite");
  await assertRejects(() => checkNewFolder(at("file"), "--save-model", overwrite), OutputError, "a file is there");
  for (const path of ["file", "empty", "new/deep"]) await checkNewFile(at(path), "--json", overwrite);
  await checkNewFile(at("empty"), "--json", keepOld);
  for (const path of ["none", "other/deep"]) await checkNewFolder(at(path), "--save-model", keepOld);
  await checkNewFolder(at("full"), "--save-model", overwrite);
  await assertRejects(() => checkPictures([at("a.png"), at("a.tiff")], keepOld), ImageError, "must end in .png");
  await assertRejects(() => checkPictures([at("a.png"), at("file/a.png")], keepOld), OutputError);
  await checkPictures([at("new/folder/a.png"), at("b.jpg")], keepOld);
  await checkDistinct({ "--json": at("a"), "--html": at("b"), "--preview": undefined });
  await assertRejects(
    () => checkDistinct({ "--json": at("file"), "--html": at("none/../link") }),
    ArgumentError,
    "Cannot write --json and --html to one file",
  );
  assertEquals(await Deno.readTextFile(at("file")), "mine");
});

Deno.test("each command refuses an output that cannot be written before it loads anything", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("file"), "mine");
  const bad = at("file/below");
  const pair = ["--source", "A rose", "--destination", "A blue rose"];
  const model = ["-m", at("no model")]; // an error about it would come from loading
  await Deno.writeTextFile(at("data.csv"), "old,new,positive1,gt1,negative1,gn1\na,b a,a,b a,c,d c\n");
  assertEquals((await run("sweep", "plan", "--data", at("data.csv"), "--seeds", "1", "-o", at("plan.json"))).code, 0);
  const commands = [
    ["generate", ...model, "-p", "x", "-o", `${bad}.png`],
    ["generate", ...model, "-p", "x", "-b", "3", "--grid", "-o", `${bad}.png`],
    ["generate", ...model, "-p", "x", "-o", at("a.png"), "--preview", `${bad}.png`],
    ["edit", ...model, ...pair, "-p", "x", "-o", `${bad}.png`],
    ["edit", ...model, ...pair, "--save-edit", bad],
    ["edit", ...model, ...pair, "--save-edit", at("e.bin")],
    ["edit", ...model, ...pair, "--export-lora", bad],
    ["edit", ...model, ...pair, "--export-lora", at("l.ckpt")],
    ["edit", ...model, ...pair, "--save-model", bad],
    ["demo", ...model, "-o", `${bad}.png`],
    ["evaluate", "edits", ...model, "--json", bad],
    ["evaluate", "leakage", ...model, "--json", bad],
    ["sweep", "plan", "--data", at("data.csv"), "-o", bad],
    ["sweep", "run", at("plan.json"), "-o", bad],
    ["sweep", "run", at("plan.json"), "-o", at("r.jsonl"), "--pictures", bad],
    ["sweep", "merge", at("plan.json"), at("file"), "--json", bad],
    ["bench", "--json", bad],
    ["bench", "--html", bad],
  ];
  for (const command of commands) {
    const { code, err } = await run(...command);
    assert(code === 1 && /OutputError: Cannot write /.test(err) && !/\n\s+at /.test(err), `${command}: ${err}`);
  }
  assertEquals(namesIn(folder.path), ["data.csv", "file", "plan.json"]);
  assertEquals(await Deno.readTextFile(at("file")), "mine");
});

Deno.test("no flag writes to a file that another one reads", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const names = [
    "lora.safetensors",
    "e.safetensors",
    "m.safetensors",
    "pairs.json",
    "plan.json",
    "r.jsonl",
    "old.json",
  ];
  for (const name of names) await Deno.writeTextFile(at(name), name);
  await Deno.symlink("lora.safetensors", at("link.safetensors"));
  const edit = ["edit", "-m", at("m.safetensors"), "--source", "a", "--destination", "a b", "--overwrite"];
  const cases: [reads: string, args: string[]][] = [
    ["--lora", [...edit, "--lora", at("lora.safetensors:0.5"), "--save-edit", at("lora.safetensors")]],
    ["--lora", [...edit, "--lora", at("lora.safetensors"), "--export-lora", at("link.safetensors")]],
    ["--textual-inversion", [...edit, "--textual-inversion", at("e.safetensors"), "--save-edit", at("e.safetensors")]],
    ["--edit", [...edit, "--edit", at("e.safetensors:2"), "--save-edit", at("e.safetensors")]],
    ["--vae", [...edit, "--vae", at("e.safetensors"), "--save-edit", at("e.safetensors")]],
    ["--model", [...edit, "--save-edit", at("m.safetensors")]],
    ["--pairs", [...edit, "--pairs", at("pairs.json"), "--save-model", at("pairs.json")]],
    ["--data", ["sweep", "plan", "--data", at("plan.json"), "-o", at("plan.json"), "--overwrite"]],
    ["PLAN", ["sweep", "run", at("plan.json"), "-o", at("plan.json")]],
    ["PLAN RESULTS", ["sweep", "merge", at("plan.json"), at("r.jsonl"), "--csv", at("r.jsonl"), "--overwrite"]],
    ["--compare", ["bench", "--compare", at("old.json"), "--json", at("old.json"), "--overwrite"]],
  ];
  for (const [reads, args] of cases) {
    const { code, err } = await run(...args);
    assertEquals(code, 2, err);
    assert(
      new RegExp(`Cannot write --[-a-z]+ to ".*" as ${reads}.* is read from it: choose another name`).test(err),
      err,
    );
  }
  for (const name of names) assertEquals(await Deno.readTextFile(at(name)), name);
});
