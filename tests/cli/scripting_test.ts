import { assert, assertEquals } from "@std/assert";
import { seedFrom } from "../../pipeline/evaluation/draw_pictures.ts";
import { readPngText } from "../../pipeline/image/png_text.ts";
import { pocket } from "../paths.ts";
import { run, temporaryFolder } from "./running.ts";

const tiny = ["-m", pocket, "--steps", "1", "-W", "64", "-H", "64"];
const largest = "18446744073709551615";

Deno.test("generate --json prints one document: paths, exact seeds, settings, times; --quiet prints nothing", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("prompts.txt"), "\ufeffa rose\r\n\n  # a comment\r\n a cat \n");
  const draw = ["generate", ...tiny, "--prompts-file", at("prompts.txt"), "--batch-size", "3"];
  const { code, out, err } = await run(
    ...[...draw, "--seed", largest, "-b", "2", "-o", at("{index}_{prompt}_{seed}.png"), "--json"],
  );
  assertEquals(code, 0, err);
  const { pictures, settings, timings, device } = JSON.parse(out);
  assertEquals(pictures, [
    { path: at(`1_a-rose_${largest}.png`), prompt: "a rose", seed: largest },
    { path: at("2_a-rose_0.png"), prompt: "a rose", seed: 0 },
    { path: at(`3_a-cat_${largest}.png`), prompt: "a cat", seed: largest },
    { path: at("4_a-cat_0.png"), prompt: "a cat", seed: 0 },
  ]);
  assertEquals([settings.steps, settings.width, typeof device], [1, 64, "string"]);
  assert(timings.loadMs > 0 && timings.drawMs > 0);
  const { parameters, bluerose } = await readPngText(await Deno.readFile(pictures[0].path));
  assert(parameters.includes(`Seed: ${largest},`), parameters);
  assertEquals(JSON.parse(bluerose).seed, largest);
  // torch's generator reads the low 32 bits: the picture is that of 2³² − 1
  const same = await run("generate", ...tiny, "-p", "a rose", "--seed", "4294967295", "-o", at("same.jpg"), "--quiet");
  assertEquals(same, { code: 0, out: "", err: "" });
});

Deno.test("a seed of -1 is drawn at random and printed, and the picture names it", async () => {
  await using folder = await temporaryFolder();
  const draw = async (name: string) => {
    const { code, err } = await run(
      "generate",
      ...tiny,
      "-p",
      "a rose",
      "--seed",
      "-1",
      "-o",
      `${folder.path}/${name}`,
    );
    assertEquals(code, 0, err);
    const printed = /^seed (\d+) \(drawn at random\)$/m.exec(err)![1];
    const { parameters } = await readPngText(await Deno.readFile(`${folder.path}/${name}`));
    assert(parameters.includes(`Seed: ${printed},`), parameters);
    return printed;
  };
  assert(await draw("a.png") !== await draw("b.png"));
});

Deno.test("edit --json reports every pair; earlier edits apply with their strength", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const saved = await run(
    ...[
      "edit",
      "-m",
      pocket,
      "--source",
      "A rose",
      "--destination",
      "A blue rose",
      "--save-edit",
      at("rose.safetensors"),
    ],
  );
  assertEquals(saved.code, 0, saved.err);
  const pairs = [
    "--source",
    "A cat",
    "--destination",
    "A white cat",
    "--source",
    "A car",
    "--destination",
    "A red car",
  ];
  const { code, out, err } = await run(
    ...["edit", ...tiny, ...pairs, "--edit", `${at("rose.safetensors")}:0.5`, "-p", "a rose", "-o", at("sheet.png")],
    ...["--report", "--json"],
  );
  assertEquals(code, 0, err);
  const { edit, predictions, sheet } = JSON.parse(out);
  const own = edit.alignments.map(({ source }: { source: string }) => source);
  assert(own.includes("A cat") && own.includes("A car"), own.join());
  assertEquals([predictions[0].prompt, sheet.path], ["a rose", at("sheet.png")]);
  for (const line of ['"A cat" -> "A white cat"', '"A car" -> "A red car"']) assert(err.includes(line), err);
  const kept = await run("edit", "-m", pocket, ...pairs, "--save-edit", at("rose.safetensors"));
  assertEquals(kept.code, 2);
  assert(kept.err.includes("add --overwrite"), kept.err);
});

Deno.test("wrong prompt files and strengths are refused before a model is loaded", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/empty.txt`, "# nothing\n\n");
  await Deno.writeFile(`${folder.path}/latin.txt`, Uint8Array.of(0xe9, 0x0a));
  const draw = ["generate", "-m", "./nowhere"];
  const cases: [args: string[], code: number, message: string][] = [
    [draw, 2, "Cannot go on without -p or --prompt TEXT, or --prompts-file FILE"],
    [[...draw, "--prompts-file", `${folder.path}/empty.txt`], 1, "holds no prompt"],
    [[...draw, "--prompts-file", `${folder.path}/latin.txt`], 1, "not a text in UTF-8"],
    [[...draw, "--prompts-file", folder.path], 1, "it is a folder"],
    [[...draw, "--prompts-file", "./nowhere.txt"], 1, "there is no such file"],
    [[...draw, "-p", "x", "--edit", "rose.safetensors:much"], 2, "after the colon it takes a number"],
    [[...draw, "-p", "x", "-b", "1e12"], 2, "at most 100000"],
    [[...draw, "-p", "x", "--steps", "1_000"], 2, "did you mean 1000?"],
    [[...draw, "-p", "x", "--steps", "0x10"], 2, "did you mean 16?"],
    [[...draw, "-p", "x", "--cfg-scale", "50%"], 2, "did you mean 0.5?"],
    [[...draw, "-p", "x", "--cfg-scale", "7,5"], 2, "did you mean 7.5?"],
    [[...draw, "-p", "x", "--steps", "5", "--steps", "6"], 2, 'Cannot use --steps twice ("5", then "6")'],
    [[...draw, "-p", "x", "--seed", "18446744073709551616"], 2, "from 0 to 18446744073709551615, or -1"],
    [["--quiet", "generate"], 2, "flags follow it"],
  ];
  for (const [args, expected, message] of cases) {
    const { code, out, err } = await run(...args);
    assertEquals([code, out], [expected, ""], `${args.join(" ")}: ${err}`);
    assert(err.includes(message), `${args.join(" ")}: ${err}`);
  }
});

Deno.test("a reader that closes standard output early is no error", async () => {
  const root = new URL("../../", import.meta.url).pathname;
  const program =
    `"${Deno.execPath()}" run -q -A --config ${root}deno.json ${root}cli/main.ts completion fish | head -1; ` +
    'echo "${PIPESTATUS[0]}"';
  const { stdout, stderr } = await new Deno.Command("bash", { args: ["-c", program] }).output();
  assertEquals(new TextDecoder().decode(stderr), "");
  assertEquals(new TextDecoder().decode(stdout).split("\n").slice(1), ["0", ""]);
});

Deno.test("evaluate and sweep take exact seeds, and draw one for -1", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/data.csv`, "old,new,positive1,gt1,negative1,gn1\nA rose,A blue rose,,,,\n");
  const plan = async (...args: string[]) =>
    await run(
      "sweep",
      "plan",
      "--data",
      `${folder.path}/data.csv`,
      "--seeds",
      "1",
      "-o",
      `${folder.path}/p.json`,
      ...args,
    );
  const drawn = await plan("--seed", "-1");
  assertEquals(drawn.code, 0, drawn.err);
  const printed = Number(/^seed (\d+) \(drawn at random\)$/m.exec(drawn.err)![1]);
  assertEquals(JSON.parse(await Deno.readTextFile(`${folder.path}/p.json`)).jobs[0].seed, printed);
  const beyond = await plan("--overwrite", "--seed", "9007199254740993");
  assertEquals(beyond.code, 2);
  assert(beyond.err.includes("from 0 to 4503599627370496, or -1"), beyond.err);
  const evaluation = await run(
    ...["evaluate", "leakage", "--steps", "1", "--seed", "18446744073709551615", "--seeds", "2", "--json"],
    ...["--prompts", `${folder.path}/prompts.txt`],
  );
  assertEquals(evaluation.code, 1, "the prompts are missing, the seed is taken");
});

Deno.test("seedFrom() counts exactly, and goes on at 0 after the largest seed", () => {
  assertEquals([0, 1, 2].map((i) => seedFrom(2n ** 64n - 2n, i)), [2n ** 64n - 2n, 2n ** 64n - 1n, 0n]);
  assertEquals(seedFrom(7, 2), 9);
});
