import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { xlSettings, xlValues } from "../../cli/xl_flags.ts";
import { readPictureSettings } from "../../pipeline/generation/picture_settings.ts";
import { parseGoldens } from "../goldens.ts";
import { goldens } from "../paths.ts";
import { run, temporaryFolder } from "./running.ts";

const model = `${goldens}/sdxl-mini`;
const cheap = ["--steps", "2", "-H", "32", "-W", "32"];
const resources = { sanitizeResources: false, sanitizeOps: false };

Deno.test(
  "generate draws SDXL by its own flags and default guidance, and draws a picture again",
  resources,
  async () => {
    await using folder = await temporaryFolder();
    const at = (name: string) => `${folder.path}/${name}`;
    const ran = async (...args: string[]) => {
      const { code, err } = await run(...args);
      assertEquals(code, 0, err);
    };
    const drawing = ["generate", "-m", model, "-p", "a rose", ...cheap];
    await ran(...drawing, "-o", at("plain.png"));
    const plain = await readPictureSettings(at("plain.png"));
    assertEquals([plain.cfgScale, plain.exact.xl, plain.options.promptSyntax], [5, undefined, undefined]);
    await ran(
      ...[...drawing, "--prompt-2", "a cat", "--original-size", "64x48", "--crop", "4,2", "--target-size", "32x16"],
      ...["--guidance-rescale", "0.7", "--denoising-end", "0.9", "-n", "blurry", "--negative-prompt-2", "dark"],
      ...["-o", at("own.png")],
    );
    const { exact, options } = await readPictureSettings(at("own.png"));
    assertEquals(exact.xl, {
      prompt2: "a cat",
      negativePrompt2: "dark",
      originalSize: [48, 64],
      targetSize: [16, 32],
      cropsCoordsTopLeft: [2, 4],
      guidanceRescale: 0.7,
      denoisingEnd: 0.9,
    });
    assertEquals([options.prompt2, options.originalSize, options.negativePrompt], ["a cat", [48, 64], "blurry"]);
    assertNotEquals(await Deno.readFile(at("own.png")), await Deno.readFile(at("plain.png")));
    await ran("generate", "--from", at("own.png"), "-o", at("again.png"));
    assertEquals(await Deno.readFile(at("again.png")), await Deno.readFile(at("own.png")));
  },
);

Deno.test("flags of another family, and of SDXL what it cannot do, are refused by name", resources, async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;
  const refused = async (message: string, ...args: string[]) => {
    const { code, err } = await run(...args);
    assert(code !== 0 && err.includes(message), `${code}: ${err}`);
  };
  const drawing = (name: string) => ["generate", "-m", `${goldens}/${name}`, "-p", "a", ...cheap, "-o", at("a.png")];
  await refused("--prompt-2 as it is for SDXL", ...drawing("sd1-mini"), "--no-safety-checker", "--prompt-2", "b");
  await refused("give --lora-dir", ...drawing("sdxl-mini"), "--prompt-syntax", "a1111", "-p", "a <lora:ink>");
  await refused("two whole numbers as WIDTHxHEIGHT", ...drawing("sdxl-mini"), "--original-size", "64");
  const pair = ["--source", "A pack of roses", "--destination", "A pack of blue roses", "--with-pooled"];
  const files = ["--save-edit", at("e.safetensors"), "--export-lora", at("l.safetensors")];
  const written = await run("edit", "-m", model, ...pair, ...files);
  assertEquals(written.code, 0, written.err);
  const { tensors } = parseGoldens(await Deno.readFile(at("l.safetensors")));
  assert(tensors.has("lora_unet_add_embedding_linear_1.lora_up.weight"), [...tensors.keys()].join());
  const { code, out } = await run("inspect", at("e.safetensors"));
  assert(code === 0 && out.includes("in 32 + 48 dimensions") && out.includes("pooled embedding of 40 dimensions"), out);
  const reported = await run("edit", "-m", model, ...pair, "--report");
  assert(reported.out.includes("pooled embedding: 4 rows, rank 4, residual "), reported.out);
  await refused("edit without --with-pooled", "edit", "-m", `${goldens}/sd1-mini`, "--no-safety-checker", ...pair);
});

Deno.test("settings of SDXL are flags and back", () => {
  const settings = {
    prompt2: "a",
    negativePrompt2: "",
    originalSize: [1, 2],
    targetSize: [3, 4],
    cropsCoordsTopLeft: [5, 6],
    negativeOriginalSize: [7, 8],
    negativeTargetSize: [9, 10],
    negativeCropsCoordsTopLeft: [11, 12],
    guidanceRescale: 0.5,
    denoisingEnd: 0,
  } as const;
  assertEquals(xlSettings(xlValues(settings)), settings);
  assertEquals(xlSettings(xlValues()), {});
});
