import { assert, assertEquals, assertRejects } from "@std/assert";
import { SingleFile } from "../../pipeline/checkpoint/ldm/single_file.ts";
import { CheckpointError } from "../../pipeline/errors.ts";
import { inspectFile, inspectFolder, problemsOf } from "../../pipeline/inspection.ts";
import { directoryTree, fileSource } from "../../pipeline/checkpoint/source/disk.ts";
import { generationText } from "../../pipeline/image/generation_text.ts";
import { encodePicture } from "../../pipeline/image/picture.ts";
import { fileOf, ldmEntries, miniConfig, zeros } from "../pipeline/checkpoint/ldm/ldm_files.ts";
import { withEnvironment } from "../environment.ts";
import { run, temporaryFolder } from "./running.ts";
import { goldens, pocket } from "../paths.ts";

Deno.test("inspect describes the parts of a folder with their figures, without a device", async () => {
  const { description, parts, problems } = await inspectFolder(await directoryTree(pocket));
  assertEquals([description, problems], ["a StableDiffusionModelEditingPipeline in diffusers' layout", []]);
  assertEquals(
    parts.map(({ part, kind, parameters, dtypes, problems }) => [part, kind, parameters, dtypes, problems]),
    [
      ["scheduler", "DDIMScheduler", 0, {}, []],
      ["vae", "AutoencoderKL", 978103, { F16: 978103 }, []],
      ["text_encoder", "CLIPTextModel", 688512, { F16: 688512 }, []],
      ["tokenizer", "CLIPTokenizer", 0, {}, []],
      ["unet", "UNet2DConditionModel", 4809188, { F16: 4809188 }, []],
    ],
  );
  const { code, out } = await run(
    "inspect",
    pocket,
    `${pocket}/clip`,
    `${goldens}/sd1-mini/unet`,
    `${goldens}/safety_checker`,
  );
  assertEquals(code, 0);
  for (
    const said of [
      "4,809,188 parameters, F16",
      "a CLIPModel",
      "variants: default, fp16",
      "a StableDiffusionSafetyChecker",
    ]
  ) {
    assert(out.includes(said), `${said} is not in\n${out}`);
  }
  assertEquals(out.match(/would load/g)?.length, 4);
});

Deno.test("inspect recognizes files of all kinds, and reads the text of pictures", async () => {
  await using folder = await temporaryFolder();
  const png = `${folder.path}/rose.png`;
  await Deno.writeFile(
    png,
    await encodePicture({ data: new Uint8Array(3), width: 1, height: 1 }, "png", { text: { parameters: "a rose" } }),
  );
  const { code, out } = await run(
    "inspect",
    "--json",
    `${goldens}/lora_kohya.safetensors`,
    `${goldens}/textual_inversion_swirl.safetensors`,
    png,
  );
  assertEquals(code, 0);
  const [lora, inversion, picture] = JSON.parse(out);
  assertEquals([lora.description, inversion.description], ["a LoRA", "a textual inversion"]);
  assertEquals([picture.description, picture.notes], ["a picture", ["parameters: a rose"]]);
});

Deno.test("inspect tells how a picture was drawn in lines that fit the terminal, whoever wrote its text", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const pixel = { data: new Uint8Array(3), width: 1, height: 1 };
  const inspected = async (name: string, text: Record<string, string>) => {
    const format = name.endsWith(".png") ? "png" : "jpeg";
    await Deno.writeFile(at(name), await encodePicture(pixel, format, { text }));
    let ran = { code: 1, out: "", err: "" };
    await withEnvironment({ COLUMNS: "60" }, async () => void (ran = await run("inspect", at(name))));
    assertEquals([ran.code, ran.err], [0, ""], ran.out);
    const [title, ...lines] = ran.out.trimEnd().split("\n");
    assertEquals(title, `${at(name)}: a picture`);
    for (const line of lines) assert(line.length <= 60, line);
    return lines;
  };
  const edit = { source: "A cat", destination: "A white cat", lambda: 0.1, options: ["strength 0.5"] };
  const record = { model: "models/pocket", modelHash: "651511aa3e", clipSkip: 0, edits: [edit], loras: { ink: 0.8 } };
  const call = { negativePrompt: "ugly", steps: 3, cfgScale: 7.5, sampler: "DDIM", width: 128, height: 64 };
  const drawn = generationText({ ...record, ...call, prompt: `a ${"very ".repeat(12)}red rose`, seed: 2n ** 60n });
  for (const name of ["ours.png", "ours.jpg"]) {
    assertEquals(await inspected(name, drawn), [
      "  prompt           a very very very very very very very very",
      "                   very very very very red rose",
      "  negative prompt  ugly",
      "  seed             1152921504606846976",
      "  steps            3",
      "  sampler          DDIM",
      "  guidance         7.5",
      "  size             128 × 64",
      "  model            models/pocket, hash 651511aa3e",
      "  LoRA             ink, weight 0.8",
      '  edit             "A cat" -> "A white cat", lambda 0.1,',
      "                   strength 0.5",
    ]);
  }
  const grid = { ...JSON.parse(drawn.bluerose), prompt: "a cat", grid: { x: { name: "steps", values: [1, 2] } } };
  const cells = await inspected("grid.png", { bluerose: JSON.stringify(grid) });
  assertEquals(cells.slice(0, 3), [
    "  shows            a grid over steps",
    "  steps            1, 2",
    `  prompt           a cat`,
  ]);
  assertEquals(cells.filter((line) => line.includes("steps")).length, 2, "those of the grid alone");
  const others = await inspected("others.png", {
    workflow: `{"nodes":[${"0,".repeat(5000)}0]}`,
    parameters: "a\nSteps: 20",
  });
  assertEquals(others.slice(0, 2), ["  parameters  a", "              Steps: 20"]);
  assert(others.map((line) => line.trim()).join(" ").includes("more characters (--json)"));
  assert(others.length < 60);
  for (const bluerose of ["[]", "{broken", '{"prompt":5}', "null"]) {
    assertEquals(await inspected("odd.png", { bluerose }), [`  bluerose  ${bluerose}`]);
  }
  assertEquals(await inspected("none.png", {}), ["  it holds no text that tells how it was drawn"]);
});

Deno.test("inspect knows pictures by their content, and tells of others beside a file that is not there", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const pixel = { data: new Uint8Array(3), width: 1, height: 1 };
  await Deno.writeFile(at("download"), await encodePicture(pixel, "jpeg", { text: { parameters: "a rose" } }));
  await Deno.copyFile(`${goldens}/lora_kohya.safetensors`, at("lora.png"));
  const { code, out, err } = await run("inspect", at("download"), at("nowhere"), at("lora.png"));
  assertEquals(code, 1);
  assert(out.includes(`${at("download")}: a picture\n  parameters  a rose\n`), out);
  assert(out.includes(`${at("nowhere")}: cannot be read\n  ✗ Cannot read ${at("nowhere")} as there is no such`), out);
  assert(out.includes(`${at("lora.png")}: a LoRA\n`), out);
  assert(err.includes(`1 of 3 would not load: ${at("nowhere")}`), err);
  for (
    const [args, message] of [[[""], 'Cannot use "" as DIR|FILE'], [
      ["-m", "", at("download")],
      'Cannot use --model ""',
    ]] as const
  ) {
    const refused = await run("inspect", ...args);
    assertEquals(refused.code, 2);
    assert(refused.err.includes(message), refused.err);
  }
});

Deno.test("inspect names small sizes and single models as one reads them", async () => {
  await using folder = await temporaryFolder();
  const edit = `${folder.path}/edit.safetensors`;
  const solved = await run(
    "edit",
    "-m",
    pocket,
    "--source",
    "A rose",
    "--destination",
    "A blue rose",
    "--save-edit",
    edit,
  );
  assertEquals(solved.code, 0, solved.err);
  const { out } = await run("inspect", edit, `${goldens}/sd1-mini/vae`);
  const [title, size, ...notes] = out.split("\n");
  assertEquals(title, `${edit}: an edit of Blue Rose`);
  assert(/^ {2}[\d,]+ parameters, F32, \d+\.\d KiB$/.test(size), size);
  assert(notes.includes('  "A rose" -> "A blue rose"'), out);
  assert(out.includes("sd1-mini/vae: an AutoencoderKL in a folder\n  AutoencoderKL, "), out);
});

Deno.test("a single file is inspected part by part, as it would be loaded", async () => {
  const config = miniConfig["sd1-mini"];
  const entries = await ldmEntries("sd1-mini");
  const whole = await inspectFile(await fileOf(entries), { config });
  assertEquals(whole.description, "a Stable Diffusion 1.x checkpoint (single file)");
  assertEquals(problemsOf(whole), []);
  assertEquals(whole.parts.map(({ part }) => part), ["unet", "vae", "text_encoder"]);
  const lost = entries.find(({ name }) => name.endsWith("to_k.weight"))!;
  const broken = await inspectFile(await fileOf(entries.filter((entry) => entry !== lost)), { config });
  const [problem, ...others] = problemsOf(broken);
  assertEquals(others, []);
  assert(/^unet: Cannot bind [^]*1 missing:\n {2}.*to_k\.weight/.test(problem), problem);
  const stranger = await inspectFile(await fileOf([zeros("double_blocks.0.img_attn.qkv.weight", [2, 2])]));
  assertEquals(problemsOf(stranger).length, 1);
  assert(stranger.description.includes("Flux"), stranger.description);
});

Deno.test("for files that would not load, inspect exits with 1 and gives the reasons", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  // Three copies of the pocket model: another width in the UNet's configuration, no VAE, and SDXL.
  for (
    const [name, spoil] of Object.entries({
      wide: async (path: string) => {
        const config = JSON.parse(await Deno.readTextFile(`${pocket}/unet/config.json`));
        await Deno.mkdir(`${path}/unet`);
        await Deno.symlink(`${pocket}/vae`, `${path}/vae`);
        await Deno.symlink(
          `${pocket}/unet/diffusion_pytorch_model.safetensors`,
          `${path}/unet/diffusion_pytorch_model.safetensors`,
        );
        await Deno.writeTextFile(`${path}/unet/config.json`, JSON.stringify({ ...config, cross_attention_dim: 64 }));
      },
      blind: async (path: string) => await Deno.symlink(`${pocket}/unet`, `${path}/unet`),
    })
  ) {
    await Deno.mkdir(at(name));
    for (const part of ["text_encoder", "tokenizer", "scheduler", "model_index.json"]) {
      await Deno.symlink(`${pocket}/${part}`, `${at(name)}/${part}`);
    }
    await spoil(at(name));
  }
  await Deno.mkdir(at("xl"));
  await Deno.writeTextFile(
    `${at("xl")}/model_index.json`,
    JSON.stringify({ _class_name: "StableDiffusionXLPipeline" }),
  );
  await Deno.mkdir(at("empty"));
  await Deno.writeTextFile(at("model.ckpt"), "pickle");
  await Deno.writeTextFile(at("cut.safetensors"), "cut");
  const cases: [path: string, reasons: string[]][] = [
    [at("wide"), ["to_k.weight: [", "by the configuration", "reads 64"]],
    [at("blind"), ["vae: Cannot", "there is no such folder"]],
    [at("xl"), ["StableDiffusionXLPipeline"]],
    [at("empty"), ["neither model_index.json nor config.json"]],
    [at("model.ckpt"), ["a pickle"]],
    [at("cut.safetensors"), ["it is text and no weights"]],
    [`${pocket}/unet/diffusion_pytorch_model.safetensors`, ["a UNet alone"]],
  ];
  for (const [path, reasons] of cases) {
    const { code, out, err } = await run("inspect", path);
    assertEquals(code, 1, out);
    assert(err.includes("1 of 1 would not load"), err);
    for (const reason of reasons) assert(out.includes(reason), `${reason} is not in\n${out}`);
  }
  assertEquals((await run("inspect", at("nowhere"))).code, 1);
  assertEquals((await run("inspect")).code, 2);
});

Deno.test("inspecting a file closes it", async () => {
  // The test runner's sanitizer reports open files.
  await inspectFile(await fileSource(`${goldens}/lora_diffusers.safetensors`));
});

Deno.test("inspect tells how a LoRA would load, with the configuration beside it, and holds it against a model", async () => {
  const lora = `${goldens}/faults/peft_config/adapter_model.safetensors`;
  const free = await run("inspect", lora);
  assertEquals(free.code, 0);
  for (
    const said of ["6 layers of the UNet, 0 of the text encoder", "forms: LoRA (6)", "rank 2, alpha / rank 3.536: 2"]
  ) assert(free.out.includes(said), `${said} is not in\n${free.out}`);
  const fits = await run("inspect", "-m", `${goldens}/sd1-mini`, lora);
  assertEquals([fits.code, fits.out.includes("fits the model"), fits.out.includes("would load")], [0, true, true]);
  const folder = await run("inspect", "-m", `${goldens}/sd1-mini`, `${goldens}/faults/peft_config`);
  assertEquals(folder.out, fits.out);
  const misfits = await run("inspect", "-m", pocket, lora);
  assertEquals([misfits.code, misfits.out.includes("do not fit their layers")], [1, true]);
});

Deno.test("what inspect says of models is what loading does: prefixes, surplus, autoencoders, other families", async () => {
  const config = miniConfig["sd1-mini"];
  const entries = await ldmEntries("sd1-mini");
  const renamed = entries.map((entry) => ({
    ...entry,
    name: entry.name.replace("cond_stage_model.transformer.", "text_encoders.clip_l.transformer."),
  }));
  const comfy = await inspectFile(await fileOf([...renamed, zeros("alphas_cumprod", [1000], "F32")]), { config });
  assertEquals(problemsOf(comfy), []);
  assert(comfy.notes.some((note) => note.includes("alphas_cumprod")), comfy.notes.join());
  const tiny = await inspectFile(await fileSource(`${goldens}/tiny-vae/diffusion_pytorch_model.safetensors`));
  assertEquals([problemsOf(tiny), tiny.parts[0].kind], [[], "AutoencoderTiny"]);
  assertEquals(problemsOf(await inspectFolder(await directoryTree(`${goldens}/tiny-vae`))), []);
  assertEquals(problemsOf(await inspectFolder(await directoryTree(`${goldens}/tiny-sd/unet`))), []);
  const others: [key: string, shape: number[], said: string][] = [
    ["model.diffusion_model.input_blocks.0.0.weight", [320, 9, 3, 3], "an inpainting model"],
    ["model.diffusion_model.input_blocks.0.0.weight", [320, 8, 3, 3], "an instruct-pix2pix model"],
    ["model.diffusion_model.input_blocks.0.0.weight", [320, 5, 3, 3], "a depth-to-image model"],
    ["model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight", [4, 4], "Stable Diffusion 3"],
    ["model.diffusion_model.double_blocks.0.img_mlp.0.weight", [4, 4], "Flux"],
    ["control_model.input_hint_block.0.weight", [16, 3, 3, 3], "ControlNet"],
  ];
  for (const [key, shape, said] of others) {
    const file = () => fileOf([zeros(key, shape)]);
    const inspected = await inspectFile(await file());
    assert(inspected.description.includes(said), inspected.description);
    assertEquals(problemsOf(inspected).length, 1);
    const refused = await assertRejects(async () => await SingleFile.open(await file()), CheckpointError);
    assert(refused.message.includes(said), refused.message);
  }
  const lost = entries.filter(({ name }) => !name.endsWith("token_embedding.weight"));
  assert(problemsOf(await inspectFile(await fileOf(lost), { config }))[0].includes("token_embedding"));
});

Deno.test("inspect takes a model of the hub's cache by its id, and says when it is not there", async () => {
  const { code, err } = await run("inspect", "nobody/nothing-like-it");
  assertEquals(code, 1);
  assert(err.includes("HubError") && err.includes("nobody/nothing-like-it"), err);
});

Deno.test("edit saves the operators of all layers in one file and one LoRA; inspect counts them", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  await Deno.writeTextFile(at("preserve.txt"), "banana car cat dog hat house lemon tree".split(" ").join("\n"));
  const args = ["--source", "a rose", "--destination", "a tulip", "--preserve-file", at("preserve.txt")];
  const kept = ["--save-edit", at("edit.safetensors"), "--export-lora", at("lora.safetensors")];
  const perLayer = ["--influence-filter", "--augment", "1", "--threshold", "0.05"];
  const model = ["-m", `${goldens}/sd1-mini`];
  const edited = await run("edit", ...model, "--method", "nullspace", ...args, ...perLayer, ...kept);
  assertEquals([edited.code, edited.err], [0, ""]);
  const inspected = await run("inspect", at("edit.safetensors"));
  assert(/method nullspace, \d+ operators, rank/.test(inspected.out), inspected.out);
  assert(/takes \d+\.\d [KM]iB on the device/.test(inspected.out), inspected.out);
  const applied = await run(
    "edit",
    ...model,
    ...args.slice(0, 2),
    "--destination",
    "a red rose",
    "--edit",
    at("edit.safetensors"),
  );
  assertEquals([applied.code, applied.err], [0, ""]);
  const refused = await run("edit", ...model, "--method", "uce", ...args, "--influence-filter");
  assert(
    refused.code === 2 && refused.err.includes('with --influence-filter as it is an option of the method "nullspace"'),
  );
});

Deno.test("inspect -m tells whether an edit or a textual inversion fits a model, and what an edit changes", async () => {
  await using folder = await temporaryFolder();
  const edit = `${folder.path}/blue.safetensors`, mini = `${goldens}/sd1-mini`;
  const solved = await run(
    ...["edit", "-m", mini, "--source", "a rose", "--destination", "a blue rose", "--save-edit", edit],
    ...["--layers", "mid_block", "--values-only"],
  );
  assertEquals([solved.code, solved.err], [0, ""]);
  const fits = await run("inspect", "-m", mini, edit);
  assertEquals(fits.code, 0, fits.out);
  for (
    const said of [
      /fits the model: changes the values of 1 of its \d+ cross-attention layers/,
      /was solved with the model's text encoders/,
    ]
  ) assert(said.test(fits.out), fits.out);
  assert(/changes the values of 1 cross-attention layer\n/.test((await run("inspect", edit)).out));
  for (
    const [model, said] of [
      [
        pocket,
        "blue.safetensors on this model: it was solved for embeddings of width 48, and the model's have width 128",
      ],
      [`${goldens}/sdxl-mini`, "the model's have width 32 + 48"],
    ]
  ) {
    const refused = await run("inspect", "-m", model, edit);
    assertEquals(refused.code, 1);
    assert(refused.out.includes(said), refused.out);
  }
  // The same sizes with other weights in the text encoder.
  const other = `${folder.path}/other`;
  await Deno.mkdir(`${other}/text_encoder`, { recursive: true });
  for (const part of ["unet", "vae", "scheduler", "tokenizer", "model_index.json"]) {
    await Deno.symlink(`${mini}/${part}`, `${other}/${part}`);
  }
  await Deno.copyFile(`${mini}/text_encoder/config.json`, `${other}/text_encoder/config.json`);
  const weights = await Deno.readFile(`${mini}/text_encoder/model.safetensors`);
  const start = 8 + new DataView(weights.buffer).getUint32(0, true);
  weights.subarray(start).reverse();
  const values = new Float32Array(weights.slice(start).buffer.slice(0, (weights.length - start) & ~3));
  for (let i = 0; i < values.length; i++) values[i] = Math.sin(i);
  weights.set(new Uint8Array(values.buffer), start);
  await Deno.writeFile(`${other}/text_encoder/model.safetensors`, weights);
  const stranger = await run("inspect", "-m", other, edit);
  assertEquals(stranger.code, 1);
  assert(/solved for another text encoder[^]*--any-model/.test(stranger.out), stranger.out);

  const inversion = `${goldens}/textual_inversion_swirl.safetensors`;
  const taught = await run("inspect", "-m", mini, inversion);
  assertEquals([taught.code, taught.out.includes("fits the model")], [0, true]);
  const untaught = await run("inspect", "-m", `${goldens}/sdxl-mini`, inversion);
  assertEquals(untaught.code, 1);
  assert(
    untaught.out.includes("this model is Stable Diffusion XL, whose two text encoders need a tensor each"),
    untaught.out,
  );
});
