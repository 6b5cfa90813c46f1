/**
 * Every command that writes, with the files that it replaces: the table of the crash tests. What
 * takes too long to run whole stands here by the functions that write its results.
 *
 * @module
 */
import { giveJson } from "../../cli/json_file.ts";
import { saveTuning } from "../../cli/tile_file.ts";
import { benchPage } from "../../bench/report/page.ts";
import { parseReport } from "../../bench/report/schema.ts";
import { writeText } from "../../pipeline/output/file.ts";
import { openHub } from "../../pipeline/checkpoint/hub/hub.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { buildStudio } from "../../studio/build.ts";
import { run } from "../cli/running.ts";
import { withEnvironment } from "../environment.ts";
import { goldens } from "../paths.ts";
import { FakeHub } from "../pipeline/checkpoint/hub/fake_hub.ts";

/** The path of a name: of what is written, or of what is read. */
export type Place = (name: string) => string;

/** Something that writes. */
export interface Writer {
  /** The command's words, or what is called instead. */
  readonly name: string;
  /** Arguments in a folder; those of write flags name the files below. */
  readonly args?: (at: Place, input: Place) => string[];
  /** Called instead of the command. */
  readonly call?: (at: Place) => Promise<unknown>;
  /** Earlier files that are replaced, with text that no command writes. */
  readonly old?: readonly string[];
  /** Files that must be there in the end, in the order in which they are finished. */
  readonly made: readonly string[];
  /** Whether a second run, after a death, is left out for its time. */
  readonly once?: boolean;
}

const model = ["-m", `${goldens}/sd1-mini`];
const draw = [...model, "--steps", "1", "--cfg-scale", "1"];
const pair = ["--source", "A rose", "--destination", "A blue rose"];

/** A data set of one row. */
const csv = "old,new,positive1,gt1,negative1,gn1\nA rose,A blue rose,a rose,a blue rose,a lemon,a blue lemon\n";

/** Files that commands read, by their names. */
export async function prepareInputs(folder: string): Promise<void> {
  const at = (name: string) => `${folder}/${name}`;
  await Deno.writeTextFile(at("data.csv"), csv);
  await Deno.writeTextFile(at("prompts.txt"), "a rose\na cup\n");
  const plan = ["--data", at("data.csv"), "--seeds", "1", "--steps", "1", "--cfg-scale", "1", ...model];
  await succeed("sweep", "plan", ...plan, "-o", at("plan.json"));
  await succeed("sweep", "run", at("plan.json"), "-o", at("results.jsonl"), "--pictures", at("drawn"));
}

/** Runs a command. @throws {Error} where it fails */
export async function succeed(...args: string[]): Promise<void> {
  const { code, err } = await run(...args);
  if (code !== 0) throw new Error(`${args.join(" ")}: ${err}`);
}

/** Makes and serves a hub for as long as `body` runs. */
async function withHub(body: (hub: FakeHub) => Promise<unknown>): Promise<void> {
  const hub = await FakeHub.start({ "config.json": "{}", "unet/model.safetensors": new Uint8Array(300_000).fill(7) });
  try {
    await body(hub);
  } finally {
    await hub.stop();
  }
}

/** Commands and other things that write. */
export const writers: readonly Writer[] = [
  {
    name: "demo",
    args: (at) => ["-o", at("a.png"), ...draw, "-p", "a rose", "--overwrite"],
    old: ["a.png"],
    made: ["a.png"],
    once: true,
  },
  {
    name: "generate",
    args: (at) => ["-o", at("{index}.png"), ...draw, "-p", "a", "-p", "b", "--overwrite", "--preview", at("p.png")],
    old: ["1.png"],
    made: ["1.png", "2.png"],
  },
  {
    name: "generate",
    args: (at) => ["-o", at("grid.png"), ...draw, "-p", "a", "-p", "b", "--grid", "--overwrite"],
    old: ["grid.png"],
    made: ["grid.png"],
    once: true,
  },
  {
    name: "edit",
    args: (at) => [
      ...["-o", at("sheet.png"), ...draw, ...pair, "-p", "a rose", "--overwrite"],
      ...["--save-edit", at("e.safetensors"), "--export-lora", at("l.safetensors"), "--save-model", at("saved")],
    ],
    old: ["sheet.png", "saved/model_index.json", "saved/unet/config.json"],
    made: ["sheet.png", "e.safetensors", "l.safetensors", "saved/model_index.json"],
  },
  {
    name: "xy",
    args: (at) => ["-o", at("xy.png"), ...draw, "-p", "a rose", "--x", "seed=1,2", "--overwrite"],
    old: ["xy.png"],
    made: ["xy.png"],
  },
  {
    name: "sweep plan",
    args: (
      at,
      input,
    ) => ["--data", input("data.csv"), "--seeds", "1", "-o", at("out/plan.json"), "--overwrite", ...model],
    old: ["out/plan.json"],
    made: ["out/plan.json"],
  },
  {
    name: "sweep run",
    args: (at, input) => [input("plan.json"), "-o", at("r.jsonl"), "--pictures", at("pictures"), "--batch-size", "2"],
    made: ["pictures/0_0_0_efficacy_0.png", "r.jsonl"],
  },
  {
    name: "sweep merge",
    args: (at, input) => [
      ...[input("plan.json"), input("results.jsonl"), "--pictures", input("drawn"), "--overwrite"],
      ...[`--json=${at("m.json")}`, "--csv", at("m.csv"), "--html", at("m.html")],
    ],
    old: ["m.json", "m.csv", "m.html"],
    made: ["m.csv", "m.html", "m.json"],
  },
  ...["slurm", "kubernetes", "hyperqueue"].map((name) => ({
    name: `sweep ${name}`,
    args: (at: Place, input: Place) => [
      ...[input("plan.json"), "--shards", "1", "-o", at("job"), "--overwrite"],
      ...(name === "kubernetes" ? ["--image", "i", "--claim", "c"] : []),
    ],
    old: ["job"],
    made: ["job"],
  })),
  {
    name: "evaluate edits",
    args: (at) => [
      ...["--edits", "1", "--related", "0", "--unrelated", "1", "--steps", "1", "--lambda", "1", "--cfg-scale", "1"],
      ...[...model, "--json", at("e.json"), "--overwrite"],
    ],
    old: ["e.json"],
    made: ["e.json"],
    once: true,
  },
  {
    name: "evaluate editors",
    args: (at) => [
      ...["--edits", "1", "--related", "0", "--unrelated", "1", "--steps", "1", "--cfg-scale", "1", "--method", "uce"],
      ...[...model, "--preserve", "no", "--json", at("e.json"), "--overwrite"],
    ],
    old: ["e.json"],
    made: ["e.json"],
    once: true,
  },
  {
    name: "debias",
    args: (at) => [
      ...[...draw, "--source", "a rose", "--destinations", "a red rose", "a blue rose"],
      ...["--budget", "8", "--round-size", "2", "--log", at("log.jsonl"), "--save-edit", at("d.safetensors")],
      ...["--json", at("d.json"), "--overwrite"],
    ],
    old: ["d.safetensors", "d.json"],
    made: ["log.jsonl", "d.safetensors", "d.json"],
    once: true,
  },
  {
    name: "evaluate leakage",
    args: (at, input) => [
      ...["--prompts", input("prompts.txt"), "--steps", "1", "--cfg-scale", "1"],
      ...[...model, "--json", at("l.json"), "--overwrite"],
    ],
    old: ["l.json"],
    made: ["l.json"],
    once: true,
  },
  { name: "doctor", call: (at) => giveJson(at("d.json"), { verdict: "fit" }), old: ["d.json"], made: ["d.json"] },
  {
    name: "bench",
    async call(at) {
      const path = new URL("../../bench/results/llvmpipe-2026-11-26-pocket.json", import.meta.url);
      const text = await Deno.readTextFile(path);
      await giveJson(at("b.json"), JSON.parse(text));
      await writeText(at("b.html"), benchPage(parseReport(text, path.pathname)));
    },
    old: ["b.json", "b.html"],
    made: ["b.json", "b.html"],
  },
  {
    name: "bench --tune",
    call: (at) =>
      withEnvironment({ BLUEROSE_TILES: at("tiles.json") }, async () => {
        await saveTuning("a device", {});
        await saveTuning("another device", {});
      }),
    made: ["tiles.json"],
  },
  {
    name: "deno task studio:build",
    call: (at) => buildStudio(at("site")),
    old: ["site/index.html", "site/pocket/model_index.json"],
    made: ["site/index.html", "site/pocket/model_index.json"],
    once: true,
  },
  {
    name: "saveSingleFile()",
    async call(at) {
      using pipe = await StableDiffusionPipeline.fromPretrained(`${goldens}/sd1-mini`);
      await pipe.saveSingleFile(at("m.safetensors"));
    },
    old: ["m.safetensors"],
    made: ["m.safetensors"],
  },
  {
    name: "a download from the hub",
    call: (at) =>
      withHub(async (hub) => {
        const tree = await openHub(hub.id, { endpoint: hub.endpoint, cacheDir: at("cache") });
        await tree.prefetch(["config.json", "unet/model.safetensors"]);
      }),
    made: ["cache/models--owner--model/refs/main"],
  },
];

/**
 * Commands that write nothing. `inspect` may put a folder back whose replacement was interrupted.
 */
export const readers: readonly string[] = ["studio", "score", "inspect", "completion"];
