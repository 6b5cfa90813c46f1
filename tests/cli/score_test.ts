import { assert, assertEquals } from "@std/assert";
import { main } from "../../cli/main.ts";
import { repeatFlag } from "../../cli/score.ts";
import { encodePicture } from "../../pipeline/image/picture.ts";
import { loadGoldens } from "../goldens.ts";
import { pocket } from "../paths.ts";

const clip = `${pocket}/clip`;

/** Runs `bluerose score` and captures its output. */
async function score(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const { log, error } = console;
  const said = { out: "", err: "" };
  console.log = (text: string) => void (said.out += `${text}\n`);
  console.error = (text: string) => void (said.err += `${text}\n`);
  try {
    return { code: await main(["score", ...args]), ...said };
  } finally {
    Object.assign(console, { log, error });
  }
}

/** A folder with two of the golden pictures as files, for as long as it is in use. */
async function pictures(): Promise<{ paths: string[]; logits: Float64Array[]; texts: string[] } & AsyncDisposable> {
  const folder = await Deno.makeTempDir();
  const { tensors, note } = await loadGoldens("../../models/pocket/clip/golden");
  const texts: string[] = note.texts;
  const paths = [`${folder}/first one.png`, `${folder}/second.png`];
  const logits: Float64Array[] = [];
  for (const [i, index] of [0, 6].entries()) {
    const { data, shape: [height, width] } = tensors.get(`image.${index}`)!;
    await Deno.writeFile(paths[i], await encodePicture({ data: Uint8Array.from(data), width, height }, "png"));
    const all = tensors.get("logits_per_image")!.data;
    logits.push(Float64Array.from(all.subarray(index * texts.length, (index + 1) * texts.length)));
  }
  return { paths, logits, texts, [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
}

Deno.test("score --json gives transformers' logits, their softmax and the best prompt", async () => {
  await using files = await pictures();
  const { code, out, err } = await score(...files.paths, "--json", "--prompts", ...files.texts);
  assertEquals([code, err], [0, ""]);
  const scores = JSON.parse(out);
  assertEquals(scores.map(({ image }: { image: string }) => image), files.paths);
  for (const [i, { best, prompts }] of scores.entries()) {
    const expected = files.logits[i];
    assertEquals(prompts.map(({ prompt }: { prompt: string }) => prompt), files.texts);
    assertEquals(best, files.texts[expected.indexOf(Math.max(...expected))]);
    const sum = expected.reduce((sum, logit) => sum + Math.exp(logit), 0);
    for (const [j, { logit, share }] of prompts.entries()) {
      assert(Math.abs(logit - expected[j]) <= 2e-5 * Math.hypot(...expected), `${logit} ≠ ${expected[j]}`);
      assert(Math.abs(share - Math.exp(expected[j]) / sum) <= 1e-3, `${share}`);
    }
  }
});

Deno.test("score prints a table: one block per picture, with * on its best prompt", async () => {
  await using files = await pictures();
  const prompts = ["a rose", "a cat", "a rose"];
  const { code, out } = await score(
    "-m",
    clip,
    "-p",
    prompts[0],
    "-p",
    prompts[1],
    "--prompt",
    prompts[2],
    "--",
    ...files.paths,
  );
  assertEquals(code, 0);
  const blocks = out.trimEnd().split("\n\n").map((block) => block.split("\n"));
  assertEquals(blocks.map(([image]) => image), files.paths);
  for (const [, heading, ...lines] of blocks) {
    assertEquals(heading, "    share    logit  prompt");
    assertEquals(lines.map((line) => /^[* ] +\d+\.\d % +-?\d+\.\d\d {2}(.*)$/.exec(line)?.[1]), prompts);
    assertEquals(lines.filter((line) => line.startsWith("*")).length, 1);
  }
});

Deno.test("score names the error: no pictures, no prompts, unreadable files, no model", async () => {
  await using files = await pictures();
  const [path] = files.paths;
  const broken = `${path}.txt`;
  await Deno.writeTextFile(broken, "no picture");
  const cases: [args: string[], code: number, message: string][] = [
    [["--prompts", "a", "b"], 2, "Cannot go on without IMAGES"],
    [[path], 2, "Cannot go on without -p or --prompts"],
    [["nowhere.png", "--prompts", "a"], 1, "ImageError: Cannot score nowhere.png as the file does not exist"],
    [[broken, "--prompts", "a"], 1, "ImageError: Cannot score"],
    [[path, "--prompts", "a", "-m", `${clip}/nowhere`], 1, "CheckpointError: Cannot load"],
    [[path, "--prompts", "a", "--variant", "fp8"], 1, "CheckpointError: Cannot"],
  ];
  for (const [args, expected, message] of cases) {
    const { code, out, err } = await score(...args);
    assertEquals([code, out], [expected, ""], args.join(" "));
    assert(err.includes(message), err);
  }
});

Deno.test("repeatFlag() assigns all texts up to the next flag to a flag", () => {
  const spread = (...args: string[]) => repeatFlag(args, "--prompts").join(" ");
  assertEquals(spread("x.png", "--prompts", "a", "b", "--json", "y.png"), "x.png --prompts a --prompts b --json y.png");
  assertEquals(spread("--prompts", "a", "-1", "-", "--", "x.png"), "--prompts a --prompts -1 --prompts - -- x.png");
  assertEquals(spread("--prompts=a", "x.png", "-p", "b", "y.png"), "--prompts=a x.png -p b y.png");
  assertEquals(spread("--prompts"), "--prompts");
});
