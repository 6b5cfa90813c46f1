import { assert, assertEquals } from "@std/assert";
import { randomEntries } from "../../../bench/measure/random_checkpoint.ts";
import type { Shapes } from "../../../bench/cases/model_shapes.ts";
import { configs, shapesOf } from "../../../bench/cases/sd14.ts";
import * as sdxl from "../../../bench/cases/sdxl.ts";
import { recognizeCheckpoint } from "../../../pipeline/checkpoint/diffusers/checkpoint_kind.ts";
import { inferConfigs } from "../../../pipeline/checkpoint/ldm/config.ts";
import { singleFileEntries } from "../../../pipeline/checkpoint/ldm/single_file_entries.ts";
import { tensorBytes, type TensorEntry } from "../../../pipeline/checkpoint/safetensors/writer.ts";
import type { TensorInfo } from "../../../pipeline/checkpoint/safetensors/format.ts";
import { Weights } from "../../../pipeline/checkpoint/safetensors/weights.ts";

const parts = ["unet", "vae", "text_encoder"] as const;

function parametersOf(shapes: Shapes): number {
  return [...shapes.values()].reduce((sum, shape) => sum + shape.reduce((product, length) => product * length, 1), 0);
}

Deno.test("the random checkpoints have as many parameters as Stable Diffusion 1.4 and SDXL", () => {
  const sd14 = parts.map((part) => parametersOf(shapesOf(part)));
  assertEquals(sd14, [859_520_964, 83_653_863, 123_060_480]);
  const xl = [...parts, "text_encoder_2" as const].map((part) => parametersOf(sdxl.shapesOf(part)));
  assertEquals(xl, [2_567_463_684, 83_653_863, 123_060_480, 694_659_840]);
});

Deno.test("random weights are the same in every run and dtype, and scaled to keep activations bounded", () => {
  const first = (dtype: "f16" | "f32"): Uint8Array => {
    const entry = randomEntries("unet", dtype).find(({ name }) => name === "conv_in.weight")!;
    const [chunk] = entry.chunks() as Iterable<Uint8Array>;
    assertEquals(chunk.byteLength, tensorBytes(entry));
    return chunk;
  };
  assertEquals(first("f16"), first("f16"));
  const values = new Float32Array(first("f32").slice().buffer);
  assertEquals(new Float32Array(new Float16Array(first("f16").slice().buffer)), values);
  const power = values.reduce((sum, value) => sum + value ** 2, 0) / values.length;
  assert(Math.abs(power * 4 * 9 - 1) < 0.05, `mean square ${power} of 36 inputs`);
});

/** Weights of which only the header is there. */
class HeaderOnly extends Weights {
  readonly name = "header";
  readonly metadata = {};
  readonly tensors: ReadonlyMap<string, TensorInfo>;

  constructor(entries: readonly TensorEntry[]) {
    super();
    this.tensors = new Map(entries.map(({ name, dtype, shape }) => [name, { dtype, shape, offset: 0, bytes: 0 }]));
  }

  readRange(): Promise<Uint8Array<ArrayBuffer>> {
    throw new Error("There is nothing to read");
  }

  close(): void {}
}

Deno.test("from the shapes of a full-size single file follows the configuration of Stable Diffusion 1.4", () => {
  const part = (name: typeof parts[number]) => ({ config: configs[name], entries: randomEntries(name, "f16") });
  const file = new HeaderOnly(singleFileEntries({
    unet: part("unet"),
    vae: part("vae"),
    textEncoder: part("text_encoder"),
    predictionType: "epsilon",
  }));
  assertEquals(recognizeCheckpoint(file).family, "sd1");
  const inferred = inferConfigs(file, { family: "sd1", predictionType: "epsilon", upcastAttention: false });
  for (const name of [...parts, "scheduler"] as const) {
    for (const [key, value] of Object.entries(configs[name])) {
      if (key !== "torch_dtype") assertEquals(inferred[name][key], value, `${name} ${key}`);
    }
  }
});

Deno.test("from the shapes of a full-size single file follows the configuration of SDXL", () => {
  const { configs } = sdxl;
  const part = (name: typeof parts[number] | "text_encoder_2") => ({
    config: configs[name],
    entries: randomEntries(name, "f16", "sdxl"),
  });
  const file = new HeaderOnly(singleFileEntries({
    unet: part("unet"),
    vae: part("vae"),
    textEncoder: part("text_encoder"),
    textEncoder2: part("text_encoder_2"),
    predictionType: "epsilon",
  }));
  assertEquals(recognizeCheckpoint(file).family, "sdxl");
  const inferred = inferConfigs(file, { family: "sdxl", predictionType: "epsilon", upcastAttention: false });
  for (const [key, value] of Object.entries(configs.unet)) assertEquals(inferred.unet[key], value, `unet ${key}`);
});
