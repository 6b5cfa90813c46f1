import { assert, assertEquals } from "@std/assert";
import type { Command } from "../../cli/command.ts";
import { kebab } from "../../cli/flag_types.ts";
import { commandTable } from "../../cli/main.ts";
import { decodePicture } from "../../pipeline/image/picture.ts";
import { beforeChange } from "../../pipeline/output/disk.ts";
import { repairFolder } from "../../pipeline/output/folder.ts";
import { parentOf } from "../../pipeline/output/paths.ts";
import { packedSuffix, unpackWeights } from "../../studio/packed_weights.ts";
import { run, temporaryFolder } from "../cli/running.ts";
import { goldens } from "../paths.ts";
import { type Moment, momentsOf, straysBelow, type Versions } from "./moments.ts";
import { prepareInputs, readers, succeed, type Writer, writers } from "./writers.ts";

/** All commands by their words, those of groups included. */
async function allCommands(): Promise<Map<string, Command>> {
  const commands = new Map<string, Command>();
  for (const { name, load } of commandTable) {
    const { command } = await load();
    if (command.subcommands === undefined) commands.set(name, command);
    for (const [word, each] of command.subcommands ?? []) commands.set(`${name} ${word}`, each);
  }
  return commands;
}

Deno.test("each command stands in the table of what writes or is known to write nothing, each write flag too", async () => {
  const commands = await allCommands();
  const known = new Set([...writers.map(({ name }) => name), ...readers]);
  assertEquals([...commands.keys()].filter((name) => !known.has(name)), []);
  const at = (name: string) => name;
  for (const [name, { flags }] of commands) {
    const rows = writers.filter((writer) => writer.name === name);
    if (rows.some(({ call }) => call !== undefined)) continue;
    const args = new Set(rows.flatMap((row) => row.args!(at, at)).map((argument) => argument.replace(/=.*/s, "")));
    const missing = Object.entries(flags).filter(([flag, declared]) => {
      if (!("access" in declared) || declared.access?.kind !== "write") return false;
      const names = [flag, ...[declared.alias ?? []].flat()];
      return !names.some((each) => args.has(`--${kebab(each)}`) || args.has(`-${each}`));
    });
    assertEquals(missing.map(([flag]) => flag), [], name);
  }
});

Deno.test("commands that are said to write nothing change nothing", async () => {
  const changes: string[] = [];
  beforeChange.hook = (change, path) => void changes.push(`${change} ${path}`);
  try {
    const { code, err } = await run("inspect", `${goldens}/sd1-mini`);
    assertEquals(code, 0, err);
    const picture = new URL("../../bench/doctor/rose.png", import.meta.url).pathname;
    await succeed("score", picture, "--prompts", "a rose", "a cup");
    await succeed("completion", "bash");
  } finally {
    delete beforeChange.hook;
  }
  assertEquals(changes, []);
});

Deno.test({
  name: "killed before any change, what each command leaves is whole",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(test) {
    await using inputs = await temporaryFolder();
    await prepareInputs(inputs.path);
    for (const [i, writer] of writers.entries()) {
      await test.step(`${writer.name}: ${writer.made.join(", ")}`, () =>
        check(writer, `${inputs.path}/${i}`, inputs.path));
    }
  },
});

Deno.test({
  name: "on a full disk, each command says so, keeps the old file and what is finished, and leaves no temporary",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(test) {
    await using inputs = await temporaryFolder();
    await prepareInputs(inputs.path);
    for (const [i, writer] of writers.entries()) {
      if (writer.args === undefined) continue;
      await test.step(
        `${writer.name}: ${writer.made.at(-1)}`,
        () => checkFull(writer, `${inputs.path}/${i}`, inputs.path),
      );
    }
  },
});

async function checkFull({ name, args, old = [], made }: Writer, folder: string, inputs: string): Promise<void> {
  await writeOld(folder, old);
  const last = made.at(-1)!;
  beforeChange.hook = (change, path) => {
    if (change !== "write" || path !== `${folder}/${last}`) return;
    throw Object.assign(new Error("No space left on device (os error 28)"), { code: "ENOSPC" });
  };
  try {
    const { code, err } = await run(
      ...name.split(" "),
      ...args!((path) => `${folder}/${path}`, (path) => `${inputs}/${path}`),
    );
    assert(code === 1 && /OutputError: Cannot write .*the disk is full/.test(err), err);
    assert(!/\n\s+at /.test(err), err);
    for (const path of made.slice(0, -1)) {
      assertEquals(await faultOf(path, await Deno.readFile(`${folder}/${path}`), { folder }), undefined);
      if (!path.startsWith("pictures/")) assert(err.split("Kept: ")[1].includes(`${folder}/${path}`), err);
    }
  } finally {
    delete beforeChange.hook;
  }
  assertEquals(straysBelow(folder), []);
  if (old.includes(last)) assertEquals(await Deno.readTextFile(`${folder}/${last}`), oldText(last));
}

async function writeOld(folder: string, old: readonly string[]): Promise<void> {
  await Deno.mkdir(folder);
  for (const path of old) {
    await Deno.mkdir(parentOf(`${folder}/${path}`), { recursive: true });
    await Deno.writeTextFile(`${folder}/${path}`, oldText(path));
  }
}

async function check(writer: Writer, folder: string, inputs: string): Promise<void> {
  const { old = [], made, once = false } = writer;
  await writeOld(folder, old);
  const gone = ({ files }: Moment) => old.filter((path) => !files.has(path)).join();
  const { moments, versions } = await momentsOf(
    folder,
    () => perform(writer, folder, inputs),
    (moment, earlier) =>
      !["", ...earlier.map(gone)].includes(gone(moment)) ||
      (!once && moment.strays.length > 0 && moment.change === "rename" && !earlier.some(({ copy }) => copy)),
  );
  assert(moments.length > 3, `${moments.length} changes`);
  assertEquals(straysBelow(folder), []);
  const last = (path: string) => Deno.readFileSync(`${folder}/${path}`);
  for (const { path, bytes } of versions.values()) {
    if (old.includes(path) && new TextDecoder().decode(bytes) === oldText(path)) continue;
    assertEquals(await faultOf(path, bytes, { folder }), undefined, path);
  }
  for (const moment of moments) {
    if (gone(moment) === "") assertOldOrNew(moment, { versions, old, last });
  }
  for (const { copy, ...moment } of moments) {
    if (copy === undefined) continue;
    if (gone(moment) !== "") await assertRepaired(copy, moment, old);
    if (!once) {
      await perform(writer, copy, inputs);
      assertEquals(straysBelow(copy), [], "after the next run");
      for (const path of made) {
        assertEquals(await faultOf(path, Deno.readFileSync(`${copy}/${path}`), { folder: copy }), undefined);
      }
    }
    await Deno.remove(copy, { recursive: true });
  }
  for (const path of made) assert(last(path).length > 0, path);
}

function oldText(path: string): string {
  return `old ${path}`;
}

async function perform({ name, args, call }: Writer, folder: string, inputs: string): Promise<void> {
  const at = (path: string) => `${folder}/${path}`;
  if (call !== undefined) await call(at);
  else await succeed(...name.split(" "), ...args!(at, (path) => `${inputs}/${path}`));
}

/** Each old file is there, as it was or as it is in the end. */
function assertOldOrNew(
  { files, change }: Moment,
  { versions, old, last }: { versions: Versions; old: readonly string[]; last: (path: string) => Uint8Array },
): void {
  for (const path of old) {
    const { bytes } = versions.get(files.get(path)!)!;
    const isOld = new TextDecoder().decode(bytes) === oldText(path);
    assert(isOld || equal(bytes, last(path)), `${path} before ${change}`);
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** A folder that dies between its two renames is put back by whoever reads it next. */
async function assertRepaired(copy: string, { files }: Moment, old: readonly string[]): Promise<void> {
  const missing = old.filter((path) => !files.has(path));
  for (const path of missing) {
    for (let above = path; above !== "."; above = parentOf(above)) await repairFolder(`${copy}/${above}`);
  }
  for (const path of missing) assert((await Deno.stat(`${copy}/${path}`)).isFile, path);
}

/** What is wrong with a file that lies in its place, by its kind; undefined for a whole file. */
async function faultOf(
  path: string,
  bytes: Uint8Array<ArrayBuffer>,
  { folder }: { folder: string },
): Promise<string | undefined> {
  const text = () => new TextDecoder().decode(bytes);
  if (path.endsWith(".incomplete")) {
    const whole = await Deno.readFile(`${folder}/${path.replace(/\.incomplete$/, "")}`);
    return bytes.every((byte, i) => byte === whole[i]) ? undefined : "no beginning of the file";
  }
  if (path.endsWith(".png")) await decodePicture(bytes);
  if (path.endsWith(packedSuffix)) await unpackWeights(bytes, path); // its checksum tells
  if (path.endsWith(".json") && text() !== "") JSON.parse(text());
  if (path.endsWith(".jsonl")) {
    for (const line of text().split("\n").slice(0, -1)) JSON.parse(line);
    return /^$|\n$/.test(text()) ? undefined : "ends within a record";
  }
  if (path.endsWith(".html")) return text().trimEnd().endsWith("</html>") ? undefined : "ends early";
  if (path.endsWith(".safetensors") && !path.includes("cache/")) {
    const header = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const entries = Object.values(JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + header))));
    const ends = (entries as { data_offsets?: number[] }[]).map(({ data_offsets }) => data_offsets?.[1] ?? 0);
    return Math.max(...ends) === bytes.length - 8 - header ? undefined : "its length is wrong";
  }
  return bytes.length > 0 || path.endsWith(".lock") ? undefined : "empty";
}
