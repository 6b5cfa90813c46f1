import { assert, assertEquals, assertRejects } from "@std/assert";
import { AutoencoderKL } from "../../../pipeline/models/vae.ts";
import { UNet2DConditionModel } from "../../../pipeline/models/unet.ts";
import { CheckpointError } from "../../../pipeline/errors.ts";
import { memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { parseAutoencoderKLConfig } from "../../../pipeline/checkpoint/diffusers/config/vae.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { bytesSource } from "../../../pipeline/checkpoint/source/byte_source.ts";
import { gpuTest } from "../../gpu.ts";
import { type FileTensor, memoryFile } from "../adapters/sd1_mini.ts";
import { goldens } from "../../paths.ts";
import { fileOf, zeros } from "./ldm/ldm_files.ts";

/** The folder of a mini model with some keys of its configuration changed. */
async function disturbed(part: string, changes: Record<string, unknown>) {
  const folder = `${goldens}/sd1-mini/${part}`;
  const config = { ...JSON.parse(await Deno.readTextFile(`${folder}/config.json`)), ...changes };
  return memoryTree({
    "config.json": new TextEncoder().encode(JSON.stringify(config)),
    "diffusion_pytorch_model.safetensors": await Deno.readFile(`${folder}/diffusion_pytorch_model.safetensors`),
  }, part);
}

gpuTest(
  "a configuration with more layers than the weights is rejected with the missing keys, before memory is allocated",
  async (gpu) => {
    const tree = await disturbed("vae", { layers_per_block: 3 });
    const error = await assertRejects(() => AutoencoderKL.fromPretrained(tree, { gpu }), CheckpointError, "missing");
    assert(error.message.includes("encoder.down_blocks.0.resnets.2.norm1.weight"), error.message);
  },
);

gpuTest("a configuration with excessive widths is rejected before device memory is allocated", async (gpu) => {
  const before = gpu.memory.peakReserved;
  for (
    const changes of [{ block_out_channels: [2 ** 18, 2 ** 18] }, { layers_per_block: 512 }, {
      latent_channels: 2 ** 20,
    }]
  ) {
    const tree = await disturbed("vae", changes);
    await assertRejects(() => AutoencoderKL.fromPretrained(tree, { gpu }), CheckpointError);
  }
  assertEquals(gpu.memory.peakReserved, before);
});

/** The warnings that `run` prints. */
async function warningsOf(run: () => Promise<unknown>): Promise<string[]> {
  const { warn } = console;
  const warnings: string[] = [];
  console.warn = (...parts: unknown[]) => void warnings.push(parts.join(" "));
  try {
    await run();
  } finally {
    console.warn = warn;
  }
  return warnings;
}

gpuTest("weights that no module reads are ignored with one warning that names them", async (gpu) => {
  const tree = await disturbed("vae", { layers_per_block: 1 });
  const [warning, ...others] = await warningsOf(async () => {
    using _ = await AutoencoderKL.fromPretrained(tree, { gpu });
  });
  assertEquals(others, []);
  assert(/^vae.* holds \d+ tensors .* ignored: /.test(warning), warning);
  assert(warning.includes("encoder.*") && warning.includes("decoder.*"), warning);
});

gpuTest("quantized weights are rejected, and the error names the scheme", async (gpu) => {
  const config = await Deno.readFile(`${goldens}/sd1-mini/vae/config.json`);
  const schemes: [key: string, scheme: string][] = [
    ["encoder.conv_in.weight", "I8"],
    ["encoder.conv_in.SCB", "bitsandbytes"],
    ["decoder.mid_block.attentions.0.to_q.qweight", "GPTQ"],
    ["scaled_fp8", "ComfyUI"],
  ];
  for (const [key, scheme] of schemes) {
    const source = await fileOf([zeros(key, [8], "I8")]);
    const weights = await source.read(0, source.size);
    const tree = memoryTree({ "config.json": config, "diffusion_pytorch_model.safetensors": weights }, "quantized");
    const error = await assertRejects(() => AutoencoderKL.fromPretrained(tree, { gpu }), CheckpointError, "quantized");
    assert(error.message.includes(scheme) && error.message.includes(key), error.message);
  }
});

gpuTest("all binding errors are reported at once: shapes, missing and unknown keys", async (gpu) => {
  const tree = await disturbed("unet", { cross_attention_dim: 32, layers_per_block: 1 });
  const error = await assertRejects(() => UNet2DConditionModel.fromPretrained(tree, { gpu }), CheckpointError);
  for (
    const part of [
      "of another shape",
      "attn2.to_k.weight",
      "[16, 48] in the file, [16, 32] by the configuration",
      "unknown to this model",
    ]
  ) {
    assert(error.message.includes(part), `${part} in:\n${error.message}`);
  }
});

gpuTest("f16 weights stay f16 on the device and take half the memory", async (gpu) => {
  const before = gpu.memory.live;
  const bytes: number[] = [];
  for (const variant of [undefined, "fp16"]) {
    using vae = await AutoencoderKL.fromPretrained(`${goldens}/sd1-mini/vae`, { gpu, variant });
    bytes.push(gpu.memory.live - before);
    assertEquals(vae.config.latentChannels, 4);
  }
  assert(bytes[1] < 0.6 * bytes[0], `${bytes}`);
});

for (const dtype of ["F32", "F16", "BF16", "F64"] as const) {
  gpuTest(`a ${dtype} weight that holds NaN or an infinity is rejected by name`, async (gpu) => {
    const folder = `${goldens}/sd1-mini/vae`;
    using weights = await SafetensorsFile.open(
      bytesSource(await Deno.readFile(`${folder}/diffusion_pytorch_model.safetensors`), "weights"),
    );
    const config = parseAutoencoderKLConfig(
      JSON.parse(await Deno.readTextFile(`${folder}/config.json`)),
      "config.json",
    );
    const [spoiled] = [...weights.tensors].find(([key, { shape }]) => key.endsWith("weight") && shape.length === 4)!;
    const tensors: Record<string, FileTensor> = {};
    for (const [key, { shape }] of weights.tensors) {
      const values = await weights.float32(key);
      if (key === spoiled) values[37] = dtype === "F64" ? NaN : -Infinity;
      tensors[key] = { shape: [...shape], dtype, data: stored(values, dtype) };
    }
    using broken = await SafetensorsFile.open(await memoryFile("broken.safetensors", tensors));
    const error = await assertRejects(() => AutoencoderKL.fromWeights(config, broken, { gpu }), CheckpointError);
    assert(error.message.includes(`${spoiled} holds NaN or an infinity (element 37)`), error.message);
  });
}

function stored(values: Float32Array<ArrayBuffer>, dtype: "F32" | "F16" | "BF16" | "F64") {
  if (dtype === "F16") return Float16Array.from(values);
  if (dtype === "F64") return Float64Array.from(values);
  if (dtype === "F32") return values;
  return Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16);
}
