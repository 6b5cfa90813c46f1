import { ownCommand } from "../../cli/cluster_flags.ts";
import { assert, assertAlmostEquals, assertEquals, assertNotEquals } from "@std/assert";
import { AppendedFile } from "../../pipeline/output/append.ts";
import { beforeChange } from "../../pipeline/output/disk.ts";
import { readPngText } from "../../pipeline/image/png_text.ts";
import { Gpu } from "../../engine/gpu.ts";
import { decodePicture } from "../../pipeline/image/picture.ts";
import { CLIPModel } from "../../pipeline/models/clip.ts";
import { goldens, pocket } from "../paths.ts";
import { commit, withCachedModel } from "./cached_model.ts";
import { run, temporaryFolder } from "./running.ts";

const csv = [
  "old,new,positive1,gt1,positive2,gt2,negative1,gn1",
  "A rose,A blue rose,a field of roses,a field of blue roses,,,a lemon,a blue lemon",
  'A cat,A white cat,"a cat, asleep","a white cat, asleep",a cat,a white cat,a bird,a white bird',
].join("\n");

/** Lines of a results file. */
async function lines(path: string): Promise<Record<string, unknown>[]> {
  return (await Deno.readTextFile(path)).trimEnd().split("\n").map((line) => JSON.parse(line));
}

Deno.test("sweep plan, run and merge evaluate two rows in two shards, one of them resumed", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("data.csv"), csv);
  const planned = await run(
    "sweep",
    "plan",
    "--data",
    at("data.csv"),
    "--seeds",
    "1",
    "--steps",
    "2",
    "--lambda",
    "1",
    "-o",
    at("plan.json"),
  );
  assertEquals(planned, { code: 0, out: `${at("plan.json")}: 2 edits, 2 jobs, 7 pictures\n`, err: "" });

  const first = await run(
    "sweep",
    "run",
    at("plan.json"),
    "--shard",
    "1/2",
    "-o",
    at("1.jsonl"),
    "--pictures",
    at("pictures"),
  );
  assertEquals([first.code, first.err], [0, ""]);
  const results = await lines(at("1.jsonl"));
  assertEquals(results.map(({ measure, prompt }) => [measure, prompt]), [
    ["efficacy", "A rose"],
    ["generality", "a field of roses"],
    ["specificity", "a lemon"],
  ]);
  for (const { fits, logits } of results) {
    const [own, edited] = logits as number[];
    assertEquals(fits, edited > own ? "destination" : "source");
  }
  const kept = await readPngText(await Deno.readFile(at("pictures/0_0_0_specificity_2.png")));
  assertEquals(JSON.parse(kept.bluerose).sweep, results[2]);

  // Merging before shard 2 has run fails; then shard 2 resumes after its last line was cut off.
  const early = await run("sweep", "merge", at("plan.json"), at("1.jsonl"));
  assertEquals(early.code, 1);
  assert(early.err.includes("4 of 7 pictures are missing"), early.err);
  const second = await run("sweep", "run", at("plan.json"), "--shard", "2/2", "-o", at("2.jsonl"));
  assertEquals(second.code, 0, second.err);
  const whole = await Deno.readTextFile(at("2.jsonl"));
  await Deno.writeTextFile(at("2.jsonl"), whole.slice(0, -40));
  const resumed = await run("sweep", "run", at("plan.json"), "--shard", "2/2", "-o", at("2.jsonl"));
  assert(resumed.out.includes("1 picture added"), resumed.out);
  const again = await lines(at("2.jsonl"));
  assertEquals(again.slice(0, 3), whole.trimEnd().split("\n").slice(0, 3).map((line) => JSON.parse(line)));
  assertEquals(again.length, 4);

  const merged = await run("sweep", "merge", at("plan.json"), at("1.jsonl"), at("2.jsonl"), "--json", at("sum.json"));
  assertEquals(merged.code, 0, merged.err);
  const all = [...results, ...again];
  const share = (measure: string, fits: string) => {
    const asked = all.filter((result) => result.measure === measure);
    return asked.filter((result) => result.fits === fits).length / asked.length;
  };
  const expected = [
    share("efficacy", "destination"),
    share("generality", "destination"),
    share("specificity", "source"),
  ];
  const { settings: [{ measures, edits }], missing } = JSON.parse(await Deno.readTextFile(at("sum.json")));
  assertEquals(measures.map(({ rate }: { rate: number }) => rate), expected);
  assertEquals(measures.map(({ pictures }: { pictures: number }) => pictures), [2, 3, 2]);
  assertEquals([edits.length, missing], [2, 0]);
  assert(merged.out.includes("time, lambda 1"), merged.out);
  const twice = await run("sweep", "merge", at("plan.json"), at("1.jsonl"), at("1.jsonl"), at("2.jsonl"));
  assert(twice.code === 1 && twice.err.includes("3 results are of pictures that have one already"), twice.err);
});

Deno.test("sweep compares editors and their settings in one plan, on the embedded model's edits", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("data.csv"), csv);
  await Deno.writeTextFile(at("keep.txt"), "a tulip\na cat\na rose\n");
  const grid = ["--method", "baseline", "time", "uce", "nullspace", "--lambda", "time=1", "--threshold", "0.1", "0.3"];
  const plan = ["sweep", "plan", ...grid, "--seeds", "1", "--rows", "1", "--steps", "1", "-o", at("plan.json")];
  const noPreserved = await run(...plan, "--data", at("data.csv"));
  assertEquals(noPreserved.code, 1);
  assert(noPreserved.err.includes('row 1, "A rose", has no prompt to preserve. Give --preserve-file'), noPreserved.err);
  const kept = ["--preserve-file", at("keep.txt"), "--preserve"];
  const planned = await run(...plan, "--data", at("data.csv"), ...kept);
  assertEquals([planned.code, planned.out], [0, `${at("plan.json")}: 1 edit, 5 settings, 5 jobs, 15 pictures\n`]);
  const drawn = await run("sweep", "run", at("plan.json"), "-o", at("r.jsonl"));
  assertEquals([drawn.code, drawn.err], [0, ""]);
  const merged = await run("sweep", "merge", at("plan.json"), at("r.jsonl"), "--csv", at("table.csv"));
  assertEquals(merged.code, 0, merged.err);
  const names = [
    "baseline",
    "time, lambda 1, preserve",
    "uce, lambda 0.5, preserve",
    "nullspace, lambda 0",
    "nullspace, lambda 0, threshold 0.3",
  ];
  const table = merged.out.split("\n").slice(2, 7).map((line) => line.split(/ {2,}/)[0]);
  assertEquals(table, names);
  const heads = (await Deno.readTextFile(at("table.csv"))).split("\n");
  assert(
    heads[0].includes(",threshold,") && heads.some((line) => line.includes("nullspace") && line.includes(",0.3,")),
  );
});

Deno.test("sweep maps the pooled embedding of SDXL and tells it from edits that do not; other models are refused", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("data.csv"), csv);
  const planned = async (model: string) => {
    const size = ["--seeds", "1", "--rows", "1", "--steps", "1", "--overwrite"];
    const plan = ["--data", at("data.csv"), "-m", model, "--with-pooled", "both", ...size, "-o", at("plan.json")];
    assertEquals((await run("sweep", "plan", ...plan)).code, 0);
    return await run("sweep", "run", at("plan.json"), "-o", at("r.jsonl"));
  };
  const refused = await planned(pocket);
  assert(refused.code === 1 && refused.err.includes("edit without --with-pooled"), refused.err);
  assertEquals((await planned(`${goldens}/sdxl-mini`)).code, 0);
  const results = await lines(at("r.jsonl"));
  const [plain, pooled] = [0, 1].map((setting) =>
    results.filter((result) => result.setting === setting).map(({ logits }) => logits)
  );
  assertEquals(plain.length, pooled.length);
  assertNotEquals(plain, pooled);
  assertEquals((await run("sweep", "merge", at("plan.json"), at("r.jsonl"), "--csv", at("table.csv"))).code, 0);
  const table = await Deno.readTextFile(at("table.csv"));
  assert(table.includes('\n"time, lambda 0.1, pooled",edit,time,0.1,false,true,'), table);
});

Deno.test("sweep erases: plan, run, merge and the report of edits toward nothing", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const also = ["a cup", "a hat"];
  const pairs = {
    related: [{ prompt: "two roses", edited: "two cups", also: ["two hats"] }],
    unrelated: [{ prompt: "a lemon", edited: "a rose" }],
  };
  const erased = { source: "a rose", destination: "", also, ...pairs, preserve: ["a lemon", "a cup"] };
  await Deno.writeTextFile(at("erase.json"), JSON.stringify([erased]));
  const model = ["-m", `${goldens}/sd1-mini`, "--seeds", "1", "--steps", "1"];
  const methods = ["--method", "baseline", "oracle", "uce", "nullspace"];
  const plan = await run("sweep", "plan", "--data", at("erase.json"), ...model, ...methods, "-o", at("plan.json"));
  assertEquals(plan.out, `${at("plan.json")}: 1 edit, 4 settings, 4 jobs, 12 pictures\n`, plan.err);
  const ran = await run("sweep", "run", at("plan.json"), "-o", at("r.jsonl"), "--pictures", at("pictures"));
  assertEquals(ran.code, 0, ran.err);
  using gpu = await Gpu.request();
  using clip = await CLIPModel.fromPretrained(`${pocket}/clip`, { gpu });
  for (const [i, { measure, logits }] of (await lines(at("r.jsonl"))).entries()) {
    if (measure === "specificity") continue;
    const forms = measure === "efficacy" ? ["a rose", ...also] : ["two roses", "two cups", "two hats"];
    const name = `pictures/${Math.floor(i / 3)}_0_0_${measure}_${i % 3}.png`;
    const picture = await decodePicture(await Deno.readFile(at(name)));
    const [own, ...others] = await clip.score([picture], forms);
    assertAlmostEquals((logits as number[])[0], own, 0.05); // the file holds bytes
    assertAlmostEquals((logits as number[])[1], Math.max(...others), 0.05);
  }
  const html = ["--html", at("report.html"), "--pictures", at("pictures")];
  const merged = await run("sweep", "merge", at("plan.json"), at("r.jsonl"), ...html);
  assertEquals(merged.code, 0, merged.err);
  assert((await Deno.readTextFile(at("report.html"))).includes("a rose → &quot;&quot;"));

  await Deno.writeTextFile(at("list.csv"), "case_number,prompt,evaluation_seed\n0,a rose and a cat,5\n");
  const two = ["--source", "a rose", "--destination", "", "--source", "a cat", "--destination", "a cup", "--jointly"];
  const list = ["--data", at("list.csv"), ...two, ...model, "--method", "uce", "-o", at("list.json")];
  assertEquals((await run("sweep", "plan", ...list)).out, `${at("list.json")}: 1 edit, 1 job, 1 picture\n`);
  const drawn = await run("sweep", "run", at("list.json"), "-o", at("list.jsonl"), "--pictures", at("listed"));
  assertEquals(drawn.code, 0, drawn.err);
  const { out } = await run("sweep", "merge", at("list.json"), at("list.jsonl"));
  // A CLIP score of one picture.
  assert(/^uce, lambda 0\.5 +– +– +– +– +\d+\.\d\d +1$/m.test(out), out);
  const text = await readPngText(await Deno.readFile(at("listed/0_0_5_list_0.png")));
  const { exact: { edits: [{ recipe: { pairs: solved } }] } } = JSON.parse(text.bluerose);
  assertEquals(solved, [{ source: "a rose", destination: "" }, { source: "a cat", destination: "a cup" }]);
});

Deno.test("sweep rejects data without pairs, shards out of range and results of another plan", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(
    at("gender.csv"),
    "old,new,validation,ex1\nan actor,a female actor,a photo of an actor,an actor at work\n",
  );
  await Deno.writeTextFile(at("data.csv"), csv);
  const plan = ["sweep", "plan", "--data", at("data.csv"), "--seeds", "1", "-o", at("plan.json")];
  assertEquals((await run(...plan)).code, 0);
  const stranger = {
    plan: "0123456789abcdef",
    row: 0,
    setting: 0,
    seed: 0,
    measure: "efficacy",
    prompt: "a",
    edited: "b",
    logits: [1, 2],
    logitScale: 100,
    fits: "destination",
  };
  await Deno.writeTextFile(at("other.jsonl"), JSON.stringify(stranger) + "\n");
  const cases: [args: string[], code: number, message: string][] = [
    [["sweep"], 2, "the step must be plan, run, merge, slurm, kubernetes or hyperqueue"],
    [["sweep", "mrege"], 2, "did you mean merge?"],
    [["sweep", "plan", "--data", at("gender.csv")], 1, "SweepError: Cannot sweep over"],
    [[...plan, "--method", "tiem"], 2, "did you mean time?"],
    [[...plan, "--lambda", "uce=1"], 2, '"uce" is no editor of --method'],
    [[...plan, "--threshold", "1"], 2, 'with --threshold as it is an option of the method "nullspace"'],
    [[...plan, "--sampling-method", "nosuch"], 2, "Cannot choose a sampler"],
    [["sweep", "run", at("plan.json"), "--shard", "3/2"], 2, "K from 1 to N"],
    [["sweep", "run", at("data.csv")], 1, "must be JSON"],
    [["sweep", "run", at("plan.json"), "-o", at("other.jsonl")], 1, "belongs to another plan"],
    [["sweep", "merge", at("plan.json"), at("other.jsonl")], 1, "belongs to another plan"],
  ];
  for (const [args, expected, message] of cases) {
    const { code, out, err } = await run(...args);
    assertEquals([code, out], [expected, ""], args.join(" "));
    assert(err.includes(message), err);
  }
});

Deno.test("sweep run refuses files that hold no results of the plan, and leaves them as they are", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("data.csv"), csv);
  assertEquals((await run("sweep", "plan", "--data", at("data.csv"), "--seeds", "1", "-o", at("plan.json"))).code, 0);
  const foreign = [
    "my diary",
    "my diary\n",
    '{"a":1}\n',
    '{"a":1}',
    "\x89PNG\r\n",
    "\0".repeat(20),
    '{"plan":"other",',
  ];
  for (const text of foreign) {
    await Deno.writeTextFile(at("foreign"), text);
    const { code, err } = await run("sweep", "run", at("plan.json"), "-o", at("foreign"));
    assert(code === 1 && err.includes("SweepError: Cannot use "), `${JSON.stringify(text)}: ${err}`);
    assertEquals(await Deno.readTextFile(at("foreign")), text);
  }
  await using _first = await AppendedFile.open(at("results.jsonl"), () => 0);
  const { code, err } = await run("sweep", "run", at("plan.json"), "-o", at("results.jsonl"));
  assert(
    code === 1 &&
      new RegExp(`another run is appending to it \\(process ${Deno.pid} on .*end it \\(kill ${Deno.pid} on`).test(err),
    err,
  );
});

Deno.test("a sweep whose disk becomes full says so and keeps what is drawn; run again, it gives the results of one run", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("data.csv"), csv);
  const plan = ["--data", at("data.csv"), "-m", `${goldens}/sd1-mini`, "--seeds", "1", "--steps", "1"];
  assertEquals((await run("sweep", "plan", ...plan, "-o", at("plan.json"))).code, 0);
  const draw = (name: string) => run("sweep", "run", at("plan.json"), "--batch-size", "2", "-o", at(name));
  assertEquals((await draw("whole.jsonl")).code, 0);
  const whole = await Deno.readTextFile(at("whole.jsonl"));
  let writes = 0;
  beforeChange.hook = (change, path) => {
    if (change !== "write" || path !== at("part.jsonl") || ++writes < 3) return;
    throw Object.assign(new Error("No space left on device (os error 28)"), { code: "ENOSPC" });
  };
  try {
    const { code, err } = await draw("part.jsonl");
    assert(code === 1 && /OutputError: Cannot write .*the disk is full/.test(err), err);
    assert(err.includes(`Kept: ${at("part.jsonl")} (3 of 7 pictures)`), err);
  } finally {
    beforeChange.hook = undefined;
  }
  const part = await Deno.readTextFile(at("part.jsonl"));
  assert(whole.startsWith(part) && part.endsWith("\n"), "whole lines stay");
  assertEquals((await draw("part.jsonl")).code, 0);
  assertEquals(await Deno.readTextFile(at("part.jsonl")), whole);
});

Deno.test("sweep run, stopped by SIGTERM or killed, loses at most a batch; run again, it gives the results of one run to the byte", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("data.csv"), csv);
  const plan = [
    "--data",
    at("data.csv"),
    "-m",
    `${goldens}/sd1-mini`,
    "--seeds",
    "6",
    "--steps",
    "1",
    "-o",
    at("plan.json"),
  ];
  assertEquals((await run("sweep", "plan", ...plan)).code, 0);
  const main = new URL("../../cli/main.ts", import.meta.url).pathname;
  const flags = ["--batch-size", "2", "--shard", "2/2", "-o"];
  assertEquals((await run("sweep", "run", at("plan.json"), ...flags, at("whole.jsonl"))).code, 0);
  const whole = await Deno.readTextFile(at("whole.jsonl"));
  for (const [signal, expected] of [["SIGTERM", 75], ["SIGKILL", 137]] as const) {
    const args = ["sweep", "run", at("plan.json"), "--batch-size", "2", "-o", at(`${signal}{shard}.jsonl`)];
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-q", "-P=test", "--no-prompt", main, ...args],
      env: { JOB_COMPLETION_INDEX: "1", BLUEROSE_SHARDS: "2" },
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const ended = child.output();
    const part = at(`${signal}2.jsonl`);
    const size = () => Deno.stat(part).then(({ size }) => size, () => 0);
    while (await size() === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill(signal);
    const { code, stderr } = await ended;
    const err = new TextDecoder().decode(stderr);
    assertEquals(code, expected, err);
    if (signal === "SIGTERM") assert(err.includes("stopped by SIGTERM; run it again to go on\nKept: "), err);
    const stopped = await Deno.readTextFile(part);
    assert(stopped.length > 0 && stopped.length < whole.length, `${stopped.length}`);
    assert(whole.startsWith(stopped), "what is there is what an uninterrupted run writes");
    assertEquals((await run("sweep", "run", at("plan.json"), ...flags, part)).code, 0);
    assertEquals(await Deno.readTextFile(part), whole);
  }
});

Deno.test("sweep refuses another version or model before it draws, and more shards than jobs; it prints job files", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("data.csv"), csv);
  assertEquals((await run("sweep", "plan", "--data", at("data.csv"), "--seeds", "1", "-o", at("plan.json"))).code, 0);
  const plan = JSON.parse(await Deno.readTextFile(at("plan.json")));
  for (const [pins, flag] of [[{ version: "0.0.1" }, "--any-version"], [{ modelHash: "0" }, "--any-model"]] as const) {
    await Deno.writeTextFile(at("other.json"), JSON.stringify({ ...plan, pins: { ...plan.pins, ...pins } }));
    const { code, err } = await run("sweep", "run", at("other.json"), "-o", at("r.jsonl"));
    assert(code === 1 && err.includes("the plan was made for another") && err.includes(flag), err);
  }
  const many = await run("sweep", "slurm", at("plan.json"), "--shards", "3");
  assert(many.code === 1 && many.err.includes("it has 2 jobs: give --shards 2 or fewer"), many.err);
  const volume = ["--image", "x", "--claim", "y"];
  for (
    const [scheduler, text, flags] of [["slurm", "#SBATCH --array=0-1", []], ["hyperqueue", "#HQ --array 0-1", []], [
      "kubernetes",
      "completions: 2",
      volume,
    ]] as const
  ) {
    const printed = await run("sweep", scheduler, at("plan.json"), "--shards", "2", ...flags);
    assert(printed.code === 0 && printed.out.includes(text), printed.err + printed.out);
  }
  const written = await run("sweep", "slurm", at("plan.json"), "--shards", "2", "-o", at("it's.sbatch"));
  assert(written.out.endsWith(`submit it with sbatch '${folder.path}/it'\\''s.sbatch'\n`), written.out);
  const nowhere = await run("sweep", "slurm", at("plan.json"), "--shards", "2", "--results", "");
  assert(nowhere.code === 2 && nowhere.err.includes("it names no folder"), nowhere.err);
  const refused = await run("sweep", "slurm", at("plan.json"), "--shards", "2", "--results", "a\\b");
  assert(refused.code === 1 && refused.err.includes("choose another folder for --results"), refused.err);
});

Deno.test("job files name this program by its path, whatever characters that has", () => {
  const command = ownCommand("file:///opt/my%20r%C3%B6se/cli/sweep_slurm.ts");
  assertEquals(command.slice(-2), ["/opt/my röse/deno.json", "/opt/my röse/cli/main.ts"]);
});

Deno.test("sweep plan pins a model of the hub by its commit, and refuses a variant that it lacks", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/plan.json`;
  const plan = (...args: string[]) =>
    run("sweep", "plan", "-m", "somebody/pocket", "--offline", "--rows", "1", "--seeds", "1", "-o", path, ...args);
  await withCachedModel(`${folder.path}/cache`, async () => {
    const lacking = await plan("--variant", "fp8");
    assertEquals(lacking.code, 1, lacking.out);
    assert(lacking.err.includes('none of its parts has weights in the variant "fp8"'), lacking.err);
    const planned = await plan("--revision", "main");
    assertEquals(planned.code, 0, planned.err);
    assertEquals(JSON.parse(await Deno.readTextFile(path)).pins.revision, commit);
  });
});

Deno.test("sweep plan checks its settings and the size of the sweep before it reads the models to pin them", async () => {
  await using folder = await temporaryFolder();
  const missing = ["-m", `${folder.path}/no-model`, "-o", `${folder.path}/plan.json`];
  const { code, err } = await run("sweep", "plan", ...missing, "--seeds", "10000000");
  assertEquals(code, 1);
  assert(err.includes("10000000 seeds from 0: they must be at most 10000000 jobs"), err);
  for (const flag of ["--lambda=1", "--values-only", "--with-pooled", "--preserve", "--tokens=last", "--augment=2"]) {
    const plain = await run("sweep", "plan", ...missing, "--method", "baseline", flag);
    assertEquals(plain.code, 2);
    assert(plain.err.includes(`Cannot use ${flag.split("=")[0]} without an edit`), plain.err);
  }
  const edit = `${folder.path}/edit.safetensors`, mini = `${goldens}/sd1-mini`;
  const pair = ["--source", "a rose", "--destination", "a blue rose"];
  assertEquals((await run("edit", "-m", mini, ...pair, "--save-edit", edit)).code, 0);
  const output = ["--seeds", "1", "-o", `${folder.path}/plan.json`];
  for (
    const [args, flag] of [
      [["-m", mini, "--revision", "main"], "--revision"],
      [["-m", edit, "--variant", "fp16"], "--variant"],
    ] as const
  ) {
    const refused = await run("sweep", "plan", ...args, ...output);
    assertEquals(refused.code, 2, refused.out);
    assert(refused.err.includes(`Cannot use ${flag} with `), refused.err);
  }
  for (
    const [args, message] of [
      [["-m", mini, "--variant", "fp8"], 'none of its parts has weights in the variant "fp8"'],
      [["-m", edit], "as it is an edit of Blue Rose"],
      [["-m", `${mini}/unet`], "Cannot read"],
      [["-m", folder.path], "has neither model_index.json nor config.json"],
      [["-m", mini, "--clip", mini], "Cannot read"],
      [["-m", mini, "--clip", `${mini}/unet`], "Cannot"],
    ] as const
  ) {
    const refused = await run("sweep", "plan", ...args, ...output);
    assertEquals(refused.code, 1, refused.out);
    assert(refused.err.includes(message), refused.err);
  }
  const small = await run("sweep", "plan", ...missing, "--seeds", "1");
  assert(small.err.includes("Cannot plan with the model"), small.err);
});
