import { assert, assertEquals } from "@std/assert";
import { advise } from "../../pipeline/advice.ts";
import { flagWords } from "../../cli/advice.ts";
import { modelFlags, samplingFlags } from "../../cli/flags.ts";
import { fileOf, zeros } from "../pipeline/checkpoint/ldm/ldm_files.ts";
import { goldens } from "../paths.ts";
import { run, temporaryFolder } from "./running.ts";

/** Names that only a program can use. */
const libraryNames = /localFilesOnly|anyModel|overwrite: |fromSingleFile|load\w+\(\)|\w+: (true|null|")|the option /;

Deno.test("the command line's advice names flags that exist, and no options of the library", () => {
  const ofEdits = ["overwrite", "anyModel", "withPooled", "saveModel", "edit"];
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
