import { assert, assertEquals } from "@std/assert";
import { pocket } from "../paths.ts";
import { run, temporaryFolder } from "./running.ts";

const row = { source: "A rose", destination: "A blue rose", related: [], unrelated: [] };
const timed = "old,new,positive1,gt1,negative1,gn1\n",
  road = "prompt,old,new,positive1,positive_new1,negative1,negative_new1\n";
const listed = "case_number,prompt,evaluation_seed\n", gender = "old,new,validation,ex1\n";

/** Files by name, with what a data set of that content is refused for. */
const dataSets: Record<string, [content: string | Uint8Array<ArrayBuffer>, message: string, ...flags: string[]]> = {
  "empty.csv": ["", "it is empty"],
  "empty.json": ["[]", "it has no rows"],
  "timed_head.csv": [timed, "it has no rows"],
  "timed_columns.csv": ["old,new\na,b\n", "it lacks the columns positive1, gt1, negative1, gn1; it has old, new"],
  "timed_cell.csv": [`${timed}A rose,,a,b,c,d\n`, "row 1 lacks its new"],
  "gender.csv": [`${gender}an actor,a female actor,a,b\n`, "TIMED's gender set has another format"],
  "road_columns.csv": ["prompt,old,new\na,b,c\n", "it lacks the columns positive1, positive_new1"],
  "road_head.csv": [road, "it has no rows"],
  "road_cell.csv": [`${road}the king,,Bob,a,b,c,d\n`, "row 1 lacks its old"],
  "list.csv": [`${listed}0,a house,1\n`, "names no edit: give --source and --destination"],
  "list_source.csv": [`${listed}0,a house,1\n`, 'whose source is ""', "--source", "", "--destination", "a"],
  "list_columns.csv": ["case_number,prompt\n0,a\n", "it lacks the columns evaluation_seed"],
  "list_cell.csv": [`${listed}0,,1\n`, "row 1 lacks its prompt", "--source", "a rose", "--destination", "a blue rose"],
  "list_seed.csv": [
    `${listed}0,a,x\n`,
    "evaluation_seed must be",
    "--source",
    "a rose",
    "--destination",
    "a blue rose",
  ],
  "list_head.csv": [listed, "it has no rows", "--source", "a rose", "--destination", "a blue rose"],
  "quote.csv": ['old,new\n"a,b\n', "as CSV"],
  "bytes.csv": [new Uint8Array([0x89, 0x50, 0xff, 0xfe]), "it is not a text in UTF-8"],
  "cut.json": ['[{"source":"a', "it must be JSON"],
  "weights.json": [JSON.stringify([{ ...row, destination: [{ prompt: "a", weight: 1 }] }]), "must be one prompt"],
  "erase.json": [JSON.stringify([{ ...row, destination: "" }]), 'only if "also" lists what may be shown'],
  "erase_time.json": [JSON.stringify([{ ...row, destination: "", also: ["a cup"] }]), 'set --tokens to "last"'],
  "retained.json": [JSON.stringify([row]), "Give --preserve-file", "--method", "nullspace"],
  "own.json": [JSON.stringify([row]), "the file names its own", "--source", "a", "--destination", "b"],
};

/** The names and contents of a folder. */
async function contents(folder: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (isFile) files[name] = (await Deno.readFile(`${folder}/${name}`)).toHex();
  }
  return files;
}

/** A command line and a part of its message. */
type Refused = readonly [args: readonly string[], message: string];

/** Runs commands that must fail, and checks that the folder is left as it was. */
async function refuse(folder: string, cases: readonly Refused[]): Promise<void> {
  const before = await contents(folder);
  for (const [args, message] of cases) {
    const { code, out, err } = await run(...args);
    assertEquals([code, out], [1, ""], `${args.join(" ")}: ${err}`);
    assert(/: [A-Z]\w+Error: Cannot /.test(err) && err.includes(message), `${args.join(" ")}: ${err}`);
    assertEquals(await contents(folder), before, args.join(" "));
  }
}

Deno.test("data sets that are empty, incomplete or of another form are refused by name, and nothing is written", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  for (const [name, [content]] of Object.entries(dataSets)) {
    await (typeof content === "string" ? Deno.writeTextFile : Deno.writeFile)(at(name), content as never);
  }
  await Deno.writeTextFile(at("gender_head.csv"), gender);
  await Deno.writeTextFile(at("gender_cell.csv"), `${gender}an actor,an actor at work,a,b\n`);
  const plan = ["sweep", "plan", "-o", at("plan.json")];
  const places = [at("empty.csv/x"), at("gender.csv/x/y")]; // folders that cannot be
  await refuse(folder.path, [
    ...Object.entries(dataSets).map(([name, [, message, ...flags]]) =>
      [[...plan, "--data", at(name), ...flags], message] as const
    ),
    [[...plan, "--data", folder.path], "it is a folder"],
    [[...plan, "--data", at("nowhere.csv")], "there is no such file"],
    [[...plan, "--clip", at("nowhere")], "Cannot judge by the CLIP model"],
    [[...plan, "-m", folder.path], "it is no model"],
    [["sweep", "plan", "-o", folder.path], "it is a folder"],
    ...places.map((place) => [["sweep", "plan", "-o", place], `Cannot write ${place}`] as const),
    ...["edits", "editors"].flatMap((subject) => [
      ...["empty.json", "empty.csv", "cut.json", "weights.json", "erase.json", "timed_head.csv"].map((name) =>
        [["evaluate", subject, "--cases", at(name)], `Cannot use ${at(name)} as cases`] as const
      ),
      ...places.map((place) => [["evaluate", subject, "--json", place], `Cannot write ${place}`] as const),
    ]),
    ...["empty.csv", "timed_columns.csv", "quote.csv", "gender_head.csv", "gender_cell.csv"].map((name) =>
      [["debias", "--data", at(name)], `Cannot debias by ${at(name)}`] as const
    ),
    [["debias", "--data", at("bytes.csv")], "it is not a text in UTF-8"],
    [["debias", "--data", at("gender.csv"), "--log", places[0]], "Cannot write "],
    [["debias", "--data", at("gender.csv"), "--log", at("list.csv")], "Cannot go on with the search"],
  ]);
});

Deno.test("plans of other versions or changed by hand, and results that are not the plan's, are refused before a model is loaded", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("rows.json"), JSON.stringify([row]));
  const args = ["--data", at("rows.json"), "-m", pocket, "--clip", `${pocket}/clip`, "--seeds", "2", "--steps", "1"];
  assertEquals((await run("sweep", "plan", ...args, "-o", at("plan.json"))).code, 0);
  const bytes = await Deno.readFile(at("plan.json"));
  const plan = JSON.parse(new TextDecoder().decode(bytes));
  const fingerprint = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 16);
  const [setting] = plan.settings;
  const plans: [changes: object, message: string][] = [
    [{ format: "blue-rose-sweep-2" }, "its format is blue-rose-sweep-2"],
    [{ format: "blue-rose-sweep-99" }, "its format is blue-rose-sweep-99"],
    [{ format: undefined }, "format is missing"],
    [{ pins: { ...plan.pins, version: "0.0.0" } }, "for another: it has 0.0.0"],
    [{ pins: { ...plan.pins, modelHash: "00" } }, "for another: it has 00"],
    [{ pins: { ...plan.pins, clipHash: "00" } }, "for another: it has 00"],
    [{ jobs: [{ row: 5, setting: 0, seed: 0 }] }, "jobs[0] is of row 5"],
    [{ jobs: [] }, "jobs must be a list of 1"],
    [{ rows: [{ ...row, destination: "" }] }, 'rows[0]: "A rose" is edited to ""'],
    [{ rows: [{ ...row, destination: [{ prompt: "a" }] }] }, "rows[0].destination must be one prompt"],
    [{ settings: [{ ...setting, editor: { ...setting.editor, lamb: 0 } }] }, "settings[0].editor.lamb must be"],
    [{ settings: [{ ...setting, editor: { ...setting.editor, lamb: "1" } }] }, "settings[0].editor.lamb must be"],
    [{ settings: [setting, setting] }, "its settings need names of their own"],
    [{ model: at("nowhere") }, "it is no file or folder here"],
  ];
  const line = (changes: object = {}) =>
    JSON.stringify({
      plan: fingerprint,
      row: 0,
      setting: 0,
      seed: 0,
      measure: "efficacy",
      prompt: "A rose",
      edited: "A blue rose",
      logits: [1, 2],
      logitScale: 100,
      fits: "destination",
      ...changes,
    }) + "\n";
  const results: [content: string, message: string][] = [
    [line({ plan: "0123456789abcdef" }), "it belongs to another plan"],
    [line().replace("[1,2]", "[NaN,2]"), "it must be JSON"],
    [line().replace("[1,2]", "[1e999,2]"), "logits[0] must be a finite number"],
    [line({ logits: [null, 2] }), "logits[0] must be a finite number"],
    [line({ seed: 7 }), "the plan asks for no such picture"],
    // A key twice.
    [line().replace('"row":0', '"row":0,"row":1'), "the plan asks for no such picture"],
    [`${line()}\n${line({ seed: 1 })}`, "line 2: it must be JSON"],
    [`${line()}my notes`, "its last line does not come from this plan"],
  ];
  for (const [i, [changes]] of plans.entries()) {
    await Deno.writeTextFile(at(`plan${i}.json`), JSON.stringify({ ...plan, ...changes }));
  }
  for (const [i, [content]] of results.entries()) await Deno.writeTextFile(at(`results${i}.jsonl`), content);
  await Deno.writeTextFile(at("cut.json"), new TextDecoder().decode(bytes.subarray(0, 200)));
  await Deno.writeTextFile(at("double.jsonl"), line() + line({ seed: 1 }) + line());
  await Deno.writeTextFile(at("cut.jsonl"), line() + line({ seed: 1 }).slice(0, 40));
  const sweep = (...args: string[]) => ["sweep", "run", at("plan.json"), ...args];
  const merge = (...args: string[]) => ["sweep", "merge", at("plan.json"), ...args];
  await refuse(folder.path, [
    ...plans.map(([, message], i) =>
      [["sweep", "run", at(`plan${i}.json`), "-o", at("r.jsonl"), "--offline"], message] as const
    ),
    [["sweep", "run", at("cut.json")], "it must be JSON"],
    [["sweep", "run", at("rows.json")], "format is missing"],
    ...results.map(([, message], i) => [sweep("-o", at(`results${i}.jsonl`)), message] as const),
    ...[at("plan.json/r.jsonl"), folder.path].map((place) => [sweep("-o", place), "Cannot write "] as const),
    [sweep("-o", at("r.jsonl"), "--pictures", at("rows.json/x")), "Cannot write "],
    ...results.map(([, message], i) => [merge(at(`results${i}.jsonl`)), message] as const),
    [merge(at("double.jsonl")), "1 result is of a picture that has one already"],
    [merge(at("cut.jsonl")), "ends within a line, which is left out"],
    [merge(at("nowhere.jsonl")), "there is no such file"],
    [merge(at("double.jsonl"), "--partial", "--html", at("plan.json/r.html")), "Cannot write "],
    [merge(at("double.jsonl"), "--partial", "--html", at("r.html"), "--pictures", at("nowhere")), "no such folder"],
  ]);
});
