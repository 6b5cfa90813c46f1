/** Adapters: LoRA files of any shapes, configurations of any JSON, embeddings of any names. */

import { assert } from "@std/assert";
import fc from "fast-check";
import { inspectLora, targetsOf } from "../../pipeline/adapters/inspect_lora.ts";
import { planLora } from "../../pipeline/adapters/lora_plan.ts";
import { LoraConfig, readLoraConfigs } from "../../pipeline/adapters/lora_scale.ts";
import { readTextualInversions } from "../../pipeline/adapters/textual_inversion.ts";
import { parseCLIPTextConfig } from "../../pipeline/checkpoint/diffusers/config/clip.ts";
import { parseUNetConfig } from "../../pipeline/checkpoint/diffusers/config/unet.ts";
import { SafetensorsFile } from "../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import type { SafetensorsDtype } from "../../pipeline/checkpoint/safetensors/format.ts";
import { bitsOf } from "../../pipeline/checkpoint/safetensors/format.ts";
import { bytesSource } from "../../pipeline/checkpoint/source/byte_source.ts";
import { AdapterError, CheckpointError } from "../../pipeline/errors.ts";
import { fuzz } from "./fuzz.ts";
import { mutated } from "./mutations.ts";
import { fileOfEntries } from "./safetensors_inputs.ts";

const model = {
  unet: parseUNetConfig({
    block_out_channels: [4, 8],
    down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
    layers_per_block: 1,
    attention_head_dim: 2,
    cross_attention_dim: 6,
    norm_num_groups: 2,
  }, "unet"),
  textEncoder: parseCLIPTextConfig({
    hidden_size: 6,
    intermediate_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
  }, "text"),
};
const targets = targetsOf(model);

// deno-lint-ignore no-control-regex
const unsafe = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e]/;

function assertTold(error: unknown): void {
  const { message, stack } = error as Error;
  assert(error instanceof CheckpointError, String(stack));
  assert(message.length < 20_000 && !unsafe.test(message), message.slice(0, 500));
}

const layers = fc.constantFrom(
  "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
  "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
  "unet.down_blocks.0.resnets.0.conv1",
  "unet.down_blocks.0.attentions.0.norm",
  "text_encoder.text_model.encoder.layers.0.mlp.fc1",
  "lora_unet_conv_in",
);
/** Parts that make up a form, so that files often hold whole ones. */
const forms = fc.constantFrom(
  [".lora_A.weight", ".lora_B.weight"],
  [".lora_down.weight", ".lora_up.weight", ".alpha"],
  [".lora_down.weight", ".lora_up.weight", ".lora_mid.weight"],
  [".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".alpha"],
  [".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2"],
  [".lokr_w1", ".lokr_w2"],
  [".lokr_w1_a", ".lokr_w1_b", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2"],
  [".lora_A.weight", ".lora_B.weight", ".dora_scale"],
  [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"],
  [".diff", ".diff_b"],
  [".w_norm", ".b_norm"],
  [".weight", ".on_input"],
);
const shape: fc.Arbitrary<number[]> = fc.oneof(
  fc.constantFrom<number[]>(
    [4, 4],
    [1, 4],
    [4, 1],
    [2, 4],
    [4, 2],
    [2, 2],
    [4, 6],
    [4, 4, 3, 3],
    [4],
    [1],
    [],
    [0, 4],
    [6, 8],
  ),
  fc.array(fc.constantFrom<number>(0, 1, 2, 3, 4, 6, 8, 9), { maxLength: 4 }),
);
const module = fc.record({
  layer: fc.oneof({ weight: 9, arbitrary: layers }, fc.string({ unit: "binary", maxLength: 12 })),
  form: forms,
  shapes: fc.array(shape, { minLength: 6, maxLength: 6 }),
  dtype: fc.constantFrom<SafetensorsDtype>("F32", "F32", "F32", "F16", "BF16", "F64", "I64", "BOOL"),
  fill: fc.constantFrom(0, 1, 0x3f, 0x7f, 0xff),
});
const files = fc.array(module, { minLength: 1, maxLength: 3 }).map((modules) => {
  const entries = new Map(
    modules.flatMap(({ layer, form, shapes, dtype, fill }) =>
      form.map((part, i) => {
        const shape = part === ".alpha" ? [] : shapes[i];
        const bytes = shape.reduce((product, length) => product * length, bitsOf[dtype] / 8);
        const name = `${layer.toWellFormed()}${part}`;
        return [name, { name, shape, dtype, chunks: () => [new Uint8Array(bytes).fill(fill)] }] as const;
      })
    ),
  );
  return [...entries.values()];
});
const open = async (entries: Parameters<typeof fileOfEntries>[0], metadata?: Record<string, string>) =>
  await SafetensorsFile.open(bytesSource(await fileOfEntries(entries, metadata), "a.safetensors"));

Deno.test("a LoRA of any shapes is planned with a rank above 0, or is an AdapterError", async () => {
  await fuzz(files, async (entries) => {
    using weights = await open(entries);
    try {
      const { modules } = planLora(weights, targets);
      for (const { rank } of modules) assert(rank === undefined || rank >= 1);
    } catch (error) {
      assertTold(error);
    }
    try {
      const { notes, problems } = await inspectLora(weights, { model });
      assert(notes.length + problems.length > 0);
    } catch (error) {
      assertTold(error);
    }
  }, 600);
});

Deno.test("a changed adapter configuration has a finite scale, or is an AdapterError", async () => {
  const json = {
    peft_type: "LORA",
    r: 4,
    lora_alpha: 8,
    rank_pattern: { to_k: 2, "attn1\\.to_.": 4 },
    alpha_pattern: { "down.*to_q": 1 },
    init_lora_weights: true,
    use_rslora: false,
    use_dora: false,
  };
  const pieces = fc.constantFrom(
    "a",
    "to_k",
    ".",
    ".*",
    "(",
    ")",
    "(?:",
    "|",
    "+",
    "?",
    "[a-z]",
    "\\.",
    "{2}",
    "^",
    "\\1",
  );
  const pattern = fc.array(pieces, { maxLength: 20 }).map((parts) => parts.join(""));
  const text = fc.oneof(mutated(json), pattern.map((key) => JSON.stringify({ ...json, alpha_pattern: { [key]: 1 } })));
  await fuzz(text, (text) => {
    try {
      const config = new LoraConfig(JSON.parse(text), "adapter_config.json");
      for (const path of ["down_blocks.0.attn1.to_q", "a.".repeat(40)]) {
        assert(Number.isFinite(config.scale(path, undefined)));
      }
      readLoraConfigs("a", { metadata: { lora_adapter_metadata: text } });
    } catch (error) {
      assert(error instanceof AdapterError, String((error as Error).stack));
      assertTold(error);
    }
  }, 1500);
});

Deno.test("a textual inversion of any names and shapes is read whole, or is an AdapterError", async () => {
  const names = fc.oneof(
    fc.constantFrom("emb_params", "string_to_param.*", "clip_l", "clip_g", "<a>", "__proto__", "\x1b[2J"),
    fc.string({ unit: "binary", maxLength: 8 }).map((name) => name.toWellFormed()).filter((n) => n !== "__metadata__"),
  );
  const tensors = fc.uniqueArray(fc.tuple(names, shape), { selector: ([name]) => name, maxLength: 3 });
  const tokens = fc.option(fc.array(fc.string(), { maxLength: 3 }), { nil: undefined });
  await fuzz(fc.tuple(tensors, tokens), async ([tensors, tokens]) => {
    const entries = tensors.map(([name, shape]) => ({
      name,
      shape,
      dtype: "F32" as const,
      chunks: () => [new Uint8Array(shape.reduce((product, length) => product * length, 4)).fill(0x3f)],
    }));
    using weights = await open(entries);
    try {
      const read = await readTextualInversions(weights, { width: 4, tokens });
      for (const { vectors } of read) assert(vectors.length > 0 && vectors.every((vector) => vector.length === 4));
    } catch (error) {
      assertTold(error);
    }
  }, 600);
});
