/** Where adapter files lie, what they are called, and what else they hold. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import { AdapterError, CheckpointError, PromptError } from "../../../pipeline/errors.ts";
import type { ByteSource } from "../../../pipeline/checkpoint/source/byte_source.ts";
import { memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { StableDiffusionModelEditingPipeline } from "../../../pipeline/model_editing.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { relativeError } from "../../goldens.ts";
import { temporaryFolder } from "../../cli/running.ts";
import { gpuTest } from "../../gpu.ts";
import { drawMini, type FileTensor, golden, memoryFile, random } from "./sd1_mini.ts";

const openMini = (gpu: Gpu) => StableDiffusionPipeline.fromPretrained(golden("sd1-mini"), { gpu });

const layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
const pair = (seed = 1): Record<string, FileTensor> => ({
  [`unet.${layer}.lora_A.weight`]: random([4, 48], seed),
  [`unet.${layer}.lora_B.weight`]: random([48, 4], seed + 1),
});

const bytesOf = async (tensors: Record<string, FileTensor>) => {
  const source = await memoryFile("file", tensors);
  return await source.read(0, source.size);
};

gpuTest("LoRAs of one file name get names that differ; a given name stays as it is", async (gpu) => {
  using pipe = await openMini(gpu);
  const load = async (path: string, name?: string) =>
    await pipe.loadLoraWeights(await memoryFile(path, pair()), { name });
  assertEquals(await load("a/pytorch_lora_weights.safetensors"), "pytorch_lora_weights");
  assertEquals(await load("b/pytorch_lora_weights.sft"), "pytorch_lora_weights_1");
  const both = await Promise.all([
    load("c/pytorch_lora_weights.SAFETENSORS"),
    load("d/pytorch_lora_weights.safetensors"),
  ]);
  assertEquals(both.sort(), ["pytorch_lora_weights_2", "pytorch_lora_weights_3"]);
  pipe.unloadLoraWeights("pytorch_lora_weights_1");
  assertEquals(await load("e/pytorch_lora_weights.safetensors"), "pytorch_lora_weights_1");
  await assertRejects(() => load("f/x.safetensors", "pytorch_lora_weights"), AdapterError, "pytorch_lora_weights");
});

gpuTest("nothing is written over the file of a loaded adapter, until it is unloaded", async (gpu) => {
  await using folder = await temporaryFolder();
  using pipe = await StableDiffusionModelEditingPipeline.fromPretrained(golden("sd1-mini"), { gpu });
  const [lora, token] = ["ink.safetensors", "rose.safetensors"].map((name) => `${folder.path}/${name}`);
  await Deno.writeFile(lora, await bytesOf(pair()));
  await Deno.writeFile(token, await bytesOf({ "<rose>": random([2, pipe.textEncoder.config.hiddenSize], 5) }));
  await Deno.symlink(lora, `${folder.path}/link.safetensors`);
  await pipe.loadLoraWeights(lora);
  await pipe.loadTextualInversion(new URL(`file://${token}`));
  using edit = await ModelEdit.solve([{ source: "a rose", destination: "a blue rose" }], {}, pipe);
  const writes = [
    (path: string) => edit.save(path),
    (path: string) => edit.exportLora(path, {}, pipe),
    (path: string) => pipe.saveSingleFile(path),
  ];
  for (const path of [lora, token, `${folder.path}/link.safetensors`]) {
    const before = await Deno.readFile(path);
    for (const write of writes) await assertRejects(() => write(path), CheckpointError, "was read from it");
    assertEquals(await Deno.readFile(path), before);
  }
  await edit.save(`${folder.path}/edit.safetensors`);
  pipe.unloadLoraWeights();
  pipe.unloadTextualInversion();
  for (const path of [lora, token]) await edit.save(path);
});

gpuTest("adapter_config.json scales PEFT's files beside it, and no others", async (gpu) => {
  using pipe = await openMini(gpu);
  const config = new TextEncoder().encode(JSON.stringify({ peft_type: "LORA", r: 4, lora_alpha: 2 }));
  const kohya = Object.fromEntries(
    Object.entries(pair()).map(([key, tensor]) => [
      `lora_unet_${layer.replaceAll(".", "_")}.${key.includes("lora_A") ? "lora_down" : "lora_up"}.weight`,
      tensor,
    ]),
  );
  const tree = memoryTree({
    "adapter_config.json": config,
    "adapter_model.safetensors": await bytesOf(pair()),
    "kohya.sft": await bytesOf(kohya),
  }, "folder");
  const drawn: Float32Array[] = [];
  for (const options of [{}, { weightName: "kohya.sft", weight: 0.5 }, { weightName: "kohya.sft" }]) {
    const name = await pipe.loadLoraWeights(tree, options);
    drawn.push(await drawMini(pipe));
    pipe.unloadLoraWeights(name);
  }
  assertEquals(relativeError(drawn[0], drawn[1]) < 1e-5, true);
  assertEquals(relativeError(drawn[0], drawn[2]) > 1e-4, true);
});

gpuTest("an embedding bundled with a LoRA is a token while the LoRA is loaded", async (gpu) => {
  using pipe = await openMini(gpu);
  const key = "bundle_emb.toy.string_to_param.*", embedding = random([2, 48], 5);
  const lora = await memoryFile("lora.safetensors", { ...pair(), [key]: embedding });
  const before = pipe.tokenizer.encode("a toy");
  const alone = await memoryFile("toy.safetensors", { "string_to_param.*": embedding });
  await pipe.loadTextualInversion(alone);
  const wanted = pipe.tokenizer.encode("a toy");
  pipe.unloadTextualInversion();
  const name = await pipe.loadLoraWeights(lora);
  assertEquals(pipe.tokenizer.addedTokens, ["toy"]);
  assertEquals(pipe.tokenizer.encode("a toy"), wanted);
  assertEquals([...pipe.textEncoder.addedTokens.values()].flatMap((vector) => [...vector]), [
    ...embedding.data as Float32Array,
  ]);
  const again = await pipe.loadLoraWeights(lora); // the same embedding is no conflict
  pipe.unloadLoraWeights(again);
  assertEquals(pipe.tokenizer.addedTokens, ["toy"]);
  const other = await memoryFile("other.safetensors", { ...pair(), [key]: random([2, 48], 6) });
  await assertRejects(() => pipe.loadLoraWeights(other), PromptError, '"toy"');
  assertEquals([...pipe.loras.keys()], [name]);
  pipe.unloadLoraWeights(name);
  assertEquals(pipe.tokenizer.encode("a toy"), before);
  const wide = await memoryFile("wide.safetensors", { ...pair(), [key]: random([2, 768], 6) });
  await assertRejects(() => pipe.loadLoraWeights(wide), AdapterError, "48 wide");
});

gpuTest("embeddings of a LoRA that a prompt names act on that prompt, and on no other call", async (gpu) => {
  using pipe = await openMini(gpu);
  const key = "bundle_emb.toy.string_to_param.*";
  const file = () => memoryFile("lora.safetensors", { ...pair(), [key]: random([2, 48], 5) });
  const draw = async (prompt: string, loraDir?: () => Promise<ByteSource>) =>
    (await pipe.generate(prompt, {
      numInferenceSteps: 2,
      width: 32,
      height: 32,
      generator: 3,
      outputType: "array",
      promptSyntax: "a1111",
      loraDir,
    })).images;
  const plain = await draw("a toy");
  await pipe.loadLoraWeights(await file(), { weight: 0.5 });
  const loaded = await draw("a toy");
  pipe.unloadLoraWeights();
  const running = draw("a toy<lora:x:0.5>", file);
  const beside = draw("a toy");
  // loaded after the call was made: another embedding of that name
  await pipe.loadTextualInversion(await memoryFile("toy.safetensors", { "string_to_param.*": random([1, 48], 9) }));
  assertEquals(relativeError(await running, loaded) < 1e-5, true);
  assertEquals(relativeError(plain, loaded) > 1e-3, true);
  assertEquals(await beside, plain);
  assertEquals(pipe.tokenizer.addedTokens, ["toy"]);
  pipe.unloadTextualInversion();
  assertEquals(await draw("a toy"), plain);
});

gpuTest("textual inversions load in all forms, several at once, or several tokens of one file", async (gpu) => {
  using pipe = await openMini(gpu);
  const file = (name: string, tensors: Record<string, FileTensor>) => memoryFile(name, tensors);
  const id = { shape: [1], dtype: "I64" as const, data: BigInt64Array.of(265n) };
  const forms = await Promise.all([
    file("one.safetensors", { emb_params: random([1, 48], 1) }),
    file("two.sft", { "string_to_param.*": random([2, 48], 2), "string_to_token.*": id }),
    file("three.safetensors", { clip_l: random([48], 3) }),
    file("x.safetensors", { "<a>": random([48], 4), "<b>": random([2, 48], 5) }),
  ]);
  assertEquals(await pipe.loadTextualInversion(forms), ["one", "two", "three", "<a>", "<b>"]);
  const lengths = ["one", "two", "three", "<a>", "<b>"].map((token) => pipe.tokenizer.encode(token).length - 2);
  assertEquals(lengths, [1, 2, 1, 1, 2]);
  pipe.unloadTextualInversion();
  assertEquals(await pipe.loadTextualInversion(forms[3]), "<a>");
  assertEquals(pipe.tokenizer.addedTokens, ["<a>", "<b>"]);
  pipe.unloadTextualInversion();
  assertEquals(await pipe.loadTextualInversion([forms[1]], { token: ["<s0>", "<s1>"] }), ["<s0>", "<s1>"]);
  assertEquals(pipe.tokenizer.encode("<s0><s1>").length, 4);
  pipe.unloadTextualInversion();
  assertEquals(await pipe.loadTextualInversion(forms.slice(0, 2), { token: ["x1", "x2"] }), ["x1", "x2"]);
  // all or none: the second token of the list is taken
  await assertRejects(() => pipe.loadTextualInversion([forms[2], forms[0]], { token: ["new", "x1"] }), PromptError);
  assertEquals(pipe.tokenizer.addedTokens, ["x1", "x2"]);
  await assertRejects(() => pipe.loadTextualInversion(forms, { token: ["a", "b"] }), AdapterError, "one for each");
  assertThrows(() => pipe.unloadTextualInversion("new"), PromptError);
});

gpuTest("adapters that hold NaN or an infinity are refused by the tensor's name", async (gpu) => {
  using pipe = await openMini(gpu);
  const before = gpu.memory.live;
  const key = `unet.${layer}.lora_B.weight`;
  for (const value of [NaN, Infinity]) {
    const bad = new Float32Array(48 * 4);
    bad[7] = value;
    for (
      const tensor of [{ shape: [48, 4], data: bad }, {
        shape: [48, 4],
        dtype: "F16" as const,
        data: Float16Array.from(bad),
      }]
    ) {
      const lora = await memoryFile("lora.safetensors", { ...pair(), [key]: tensor });
      await assertRejects(
        () => pipe.loadLoraWeights(lora),
        AdapterError,
        `${key} holds NaN or an infinity (element 7)`,
      );
    }
    const inversion = await memoryFile("bad.safetensors", { "<a>": { shape: [4, 48], data: bad } });
    await assertRejects(() => pipe.loadTextualInversion(inversion), AdapterError, "<a> holds NaN");
  }
  assertEquals([gpu.memory.live, pipe.loras.size, pipe.tokenizer.addedTokens.length], [before, 0, 0]);
});

gpuTest("safetensors under a pickle's name are told to be renamed; pickles are refused as such", async (gpu) => {
  using pipe = await openMini(gpu);
  await using folder = await temporaryFolder();
  const path = `${folder.path}/lora.bin`;
  await Deno.writeFile(path, await bytesOf(pair()));
  await assertRejects(() => pipe.loadLoraWeights(path), AdapterError, `rename it to ${folder.path}/lora.safetensors`);
  await Deno.writeFile(path, Uint8Array.of(0x80, 2, 0x7d, 0x71, 0, 0x2e, 0, 0, 0, 0));
  await assertRejects(() => pipe.loadLoraWeights(path), AdapterError, "it is a pickle");
});
