import { assert, assertEquals } from "@std/assert";
import { advise } from "../../pipeline/advice.ts";
import { flagWords } from "../../cli/advice.ts";
import { kebab } from "../../cli/flag_types.ts";
import { modelFlags, samplingFlags } from "../../cli/flags.ts";
import { methodFlags } from "../../cli/method_flags.ts";
import { inFlags } from "../../cli/option_flags.ts";
import { xlFlags } from "../../cli/xl_flags.ts";
import { fileOf, zeros } from "../pipeline/checkpoint/ldm/ldm_files.ts";
import { goldens } from "../paths.ts";
import { run, temporaryFolder } from "./running.ts";

/** Names that only a program can use. */
const libraryNames = /localFilesOnly|anyModel|overwrite: |fromSingleFile|load\w+\(\)|\w+: (true|null|")|the option /;

Deno.test("the command line's advice names flags that exist, and no options of the library", () => {
  const ofEdits = ["overwrite", "anyModel", "withPooled", "saveModel", "saveDtype", "loraDtype", "edit"];
  const names = ["offline", ...ofEdits, ...Object.keys({ ...modelFlags, ...samplingFlags })];
  const flags = names.flatMap((name) => {
    const kebab = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    return [`--${kebab}`, `--no-${kebab}`];
  });
  for (const [advice, words] of Object.entries(flagWords)) {
    assert(!libraryNames.test(words), `${advice}: ${words}`);
    for (const [flag] of words.matchAll(/--[\w-]+/g)) assert(flags.includes(flag), `${advice}: ${flag}`);
  }
  assertEquals(advise("useF32"), 'load the pipeline with activations: "f32"'); // the library's words outside of it
});

Deno.test("what fails on the command line is told in its own words, also by the library", async () => {
  await using folder = await temporaryFolder();
  const write = async (name: string, key: string) => {
    const source = await fileOf([zeros(key, [4, 4])]);
    await Deno.writeFile(`${folder.path}/${name}`, await source.read(0, source.size));
    return `${folder.path}/${name}`;
  };
  const draw = ["-p", "a rose", "-o", `${folder.path}/a.png`];
  const pipeline = await Deno.makeTempDir({ dir: folder.path });
  const index = JSON.parse(await Deno.readTextFile(`${goldens}/sd1-mini/model_index.json`));
  const checker = { ...index, safety_checker: ["stable_diffusion", "StableDiffusionSafetyChecker"] };
  await Deno.writeTextFile(`${pipeline}/model_index.json`, JSON.stringify(checker));
  const lora = await write("style.safetensors", "lora_unet_x.lora_up.weight");
  const vae = await write("vae.safetensors", "encoder.down.0.block.0.conv1.weight");
  const cases: [args: string[], said: string][] = [
    [["generate", "-m", lora, ...draw], "--lora"],
    [["generate", "-m", vae, ...draw], "--vae"],
    [["generate", "-m", pipeline, ...draw], "--no-safety-checker"],
    [["inspect", vae], "--vae"],
  ];
  for (const [args, said] of cases) {
    const { code, out, err } = await run(...args);
    assertEquals(code, 1, err);
    assert(`${out}${err}`.includes(said), `${said} is not in\n${out}${err}`);
    assert(!libraryNames.test(out + err), out + err);
  }
});

/** Flags whose names are no names of options. */
const ownNames = ["cfgScale", "batchSize", "previewInterval", "previewVae", "textualInversion", "negativeCrop"];

Deno.test("an option of the library is told as the flag of its name", () => {
  const names = Object.keys({ ...modelFlags, ...samplingFlags, ...xlFlags, ...methodFlags });
  const options = names.filter((name) => kebab(name) !== name && !ownNames.includes(name));
  assert(options.length > 15, options.join());
  for (const option of options) assertEquals(inFlags(`give ${option}, too`), `give --${kebab(option)}, too`);
});

Deno.test("names of files, of tensors and of places in files stay as they are beside names of options", () => {
  const kept = [
    "prompt2.txt",
    "a/negativePrompt/guidanceScale.json",
    "unet.vaeTiling.weight",
    "settings[0].editor.lamb",
  ];
  for (const name of kept) assertEquals(inFlags(`Cannot read ${name}: x`), `Cannot read ${name}: x`);
  assertEquals(
    inFlags("Give clipSkip. Leave withPooled, (prompt2), guidanceScale: 1"),
    "Give --clip-skip. Leave --with-pooled, (--prompt-2), --cfg-scale: 1",
  );
});

Deno.test("warnings of commands speak of flags, and of no options of the library", async () => {
  await using folder = await temporaryFolder();
  const model = `${folder.path}/model`, mini = `${goldens}/sdxl-mini`;
  await Deno.mkdir(model);
  for (const { name } of Deno.readDirSync(mini)) {
    if (name !== "model_index.json") await Deno.symlink(`${mini}/${name}`, `${model}/${name}`);
  }
  const index = JSON.parse(await Deno.readTextFile(`${mini}/model_index.json`));
  const scheduler = ["diffusers", "DPMSolverSDEScheduler"];
  await Deno.writeTextFile(`${model}/model_index.json`, JSON.stringify({ ...index, scheduler }));
  const drawing = ["generate", "-m", model, "-p", "a (red:1.2) rose", "--steps", "1", "-H", "32", "-W", "32"];
  const unused = ["--negative-prompt-2", "dark", "--negative-original-size", "32x32", "--negative-crop", "1,1"];
  const sampler = ["--sampling-method", "euler"];
  const { code, err } = await run(...drawing, ...unused, ...sampler, "-o", `${folder.path}/a.png`);
  assertEquals(code, 0, err);
  for (
    const said of [
      "is not supported: choose one by --sampling-method",
      "--negative-prompt-2 is not used, as diffusers reads it with --negative-prompt only",
      "--negative-original-size, --negative-crop are not used, as in diffusers: give both --negative-original-size and " +
      "--negative-target-size",
      "--prompt-syntax a1111 reads it",
    ]
  ) assert(err.includes(said), err);
  const options = err.match(/\b[a-z]+[A-Z]\w*/g)?.filter((word) => !folder.path.includes(word));
  assertEquals(options ?? [], []);
});
