import { assert, assertEquals } from "@std/assert";
import { run, temporaryFolder } from "./running.ts";

const search = ["--steps", "1", "--budget", "8", "--round-size", "2"];

Deno.test("debias searches, saves its edit, and goes on with what its log holds", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const task = ["--source", "a rose", "--destinations", "a red rose", "a blue rose"];
  const args = ["debias", ...task, ...search, "--target", "0.25", "0.75", "--log", at("log.jsonl")];
  const { code, out, err } = await run(...args, "--save-edit", at("edit.safetensors"), "--json", at("result.json"));
  assertEquals([code, err], [0, ""]);
  assert(/^a red rose: -?\d\.\d{3}, \d\.\d\d \[/m.test(out), out);
  const { weights, pictures, after } = JSON.parse(await Deno.readTextFile(at("result.json")));
  assert(pictures <= 8 && Math.abs(weights[0] + weights[1] - 1) < 1e-9);
  assertEquals(after.length, 2);
  assert((await Deno.stat(at("edit.safetensors"))).size > 0);
  const log = await Deno.readTextFile(at("log.jsonl"));
  await Deno.writeTextFile(at("log.jsonl"), log.slice(0, -20)); // the last draw was being written
  const again = await run(...args);
  assertEquals([again.code, again.out.split("\n").slice(0, -2)], [
    0,
    out.split("\n").slice(0, again.out.split("\n").length - 2),
  ]);
  assertEquals(await Deno.readTextFile(at("log.jsonl")), log);
  const other = await run(...args, "--seed", "7");
  assert(other.code === 1 && other.err.includes("belongs to another search"), other.err);
});

Deno.test("debias --data prints the table of a set like TIMED's", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/set.csv`;
  await Deno.writeTextFile(
    path,
    "old,new,validation,ex1,ex2,opposite\na cat,a white cat,,a cat,two cats,a black cat\n",
  );
  const { code, out, err } = await run("debias", "--data", path, ...search, "--each", "1");
  assertEquals([code, err], [0, ""]);
  assert(/^a white cat +\d\.\d\d \[.*\] +\d\.\d\d \[.*\] +\d\.\d\d +\d\.\d\d$/m.test(out), out);
  assert(/mean of 1: Δ \d\.\d\d before, \d\.\d\d after/.test(out), out);
});

Deno.test("debias names the flag that is wrong, before a model is loaded", async () => {
  const pair = ["--source", "a", "--destinations", "b", "c"];
  const cases: [args: string[], code: number, message: string][] = [
    [[], 2, "give --source and --destinations, or --data"],
    [["--source", "a", "--destinations", "b"], 2, "give two or more"],
    [[...pair, "--target", "0.5"], 2, "give one share for each"],
    [[...pair, "--target", "0.5", "0.6"], 2, "whose sum is 1"],
    [[...pair, "--budget", "20"], 2, "give 64 or more"],
    [["--data", "/nowhere.csv"], 1, "/nowhere.csv"],
    [[...pair, "--log", "/dev/null/log.jsonl"], 1, "OutputError"],
  ];
  for (const [args, expected, message] of cases) {
    const { code, err } = await run("debias", "-m", "./nowhere", ...args);
    assertEquals(code, expected, err);
    assert(err.includes(message), err);
  }
});
