/**
 * Packs weights for transport to a browser, as `packed_weights.ts` says. Weights are rounded to
 * uniform steps: at a given error, these have the least entropy of all scalar quantizers in the
 * limit of fine steps (Gish and Pierce, Asymptotically efficient quantizing, 1968). The low byte of
 * a rounded weight is nearly random and its high byte nearly constant, so that a Huffman code of
 * either, which is what gzip has, comes close to that entropy.
 *
 * @module
 */

import { constants, createGzip, type Gzip } from "node:zlib";
import { bytesSource } from "../pipeline/checkpoint/source/byte_source.ts";
import { SafetensorsFile } from "../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { type TensorEntry, writeSafetensors } from "../pipeline/checkpoint/safetensors/writer.ts";
import { SafetensorsError } from "../pipeline/errors.ts";
import { dataStart } from "./packed_weights.ts";
import { collected } from "./saved_file.ts";

/**
 * How many steps the root mean square of a matrix has, about: the step is the nearest power of two.
 * `bench/measure/packed_pictures.ts` prints what that costs in bytes and in pictures.
 */
export const stepsOfRms = 96;

/**
 * Weights that an edit or a LoRA depends on stay as they are: files that the page saves are those
 * that the model itself gives.
 */
export function keepsExactly(folder: string, tensor: string): boolean {
  return folder === "text_encoder" || /\.attn2\.to_[kv]\./.test(tensor);
}

/**
 * Packs a safetensors file of tensors in f16.
 *
 * @param options.isExact Tensors to leave in f16. Default: none.
 * @param options.steps Default: {@linkcode stepsOfRms}.
 * @throws {SafetensorsError} if it is none, or has tensors of another dtype
 */
export async function packWeights(
  file: Uint8Array<ArrayBuffer>,
  name: string,
  { isExact = () => false, steps = stepsOfRms }: { isExact?: (tensor: string) => boolean; steps?: number } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  using weights = await SafetensorsFile.open(bytesSource(file, name));
  const exponents: Record<string, number> = {};
  const entries: TensorEntry[] = [];
  for (const [key, { dtype, shape, bytes }] of weights.tensors) {
    if (dtype !== "F16") {
      throw new SafetensorsError(`Cannot pack the tensor ${key} of ${name} as it is ${dtype} and must be F16`, {
        source: name,
        tensor: key,
      });
    }
    const values = new Float16Array((await weights.readRange(key, 0, bytes)).buffer);
    if (isExact(key)) {
      entries.push({ name: key, dtype, shape, chunks: () => [new Uint8Array(values.buffer)] });
      continue;
    }
    // Norms and biases are few: they get the finest step.
    const exponent = exponentFor(values, shape.length > 1 ? steps : Infinity);
    exponents[key] = exponent;
    const codes = Uint16Array.from(values, (value) => zigzag(Math.round(value / 2 ** exponent)));
    entries.push({ name: key, dtype: "U16", shape, chunks: () => [new Uint8Array(codes.buffer)] });
  }
  const metadata = { ...weights.metadata, exponents: JSON.stringify(exponents) };
  const plain = await collected((sink) => writeSafetensors(entries, sink, { metadata }));
  return await compressed(withSplitBytes(plain), dataStart(plain));
}

/** 0, −1, 1, −2, 2, … as 0, 1, 2, 3, 4, …: small magnitudes have a high byte of 0. */
function zigzag(integer: number): number {
  return integer < 0 ? -2 * integer - 1 : 2 * integer;
}

/** One gzip member. Looking for repeated bytes pays in the header; in random data it costs. */
async function compressed(file: Uint8Array<ArrayBuffer>, start: number): Promise<Uint8Array<ArrayBuffer>> {
  // Deno's types lack params(), which changes the strategy of what follows.
  const gzip = createGzip({ level: 9, memLevel: 9 }) as Gzip & {
    params(level: number, strategy: number, done: (error: Error | null) => void): void;
  };
  const parts: Uint8Array<ArrayBuffer>[] = [];
  gzip.on("data", (part: Uint8Array<ArrayBuffer>) => parts.push(part));
  const ended = new Promise((resolve, reject) => gzip.on("end", resolve).on("error", reject));
  await new Promise((resolve) => gzip.write(file.subarray(0, start), resolve));
  await new Promise((resolve) => gzip.params(9, constants.Z_HUFFMAN_ONLY, resolve));
  gzip.end(file.subarray(start));
  await ended;
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function withSplitBytes(plain: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const start = dataStart(plain);
  const split = plain.slice();
  const count = (plain.length - start) / 2;
  for (let i = 0; i < count; i++) {
    split[start + i] = plain[start + 2 * i];
    split[start + count + i] = plain[start + 2 * i + 1];
  }
  return split;
}

/** All values of f16 are multiples of 2^-24. */
const finest = -24;

/**
 * e of the step 2^e for so many steps in the root mean square, but none that 16 bits do not reach.
 * A value of 2¹¹ steps or more is a multiple of the step already, as f16 has 11 bits: that is why
 * every q · 2^e is exact in f16.
 */
function exponentFor(values: Float16Array, steps: number): number {
  let squares = 0, largest = 0;
  for (const value of values) {
    squares += value * value;
    largest = Math.max(largest, Math.abs(value));
  }
  if (largest === 0) return finest;
  const wanted = Math.round(Math.log2(Math.sqrt(squares / values.length) / steps));
  return Math.max(wanted, finest, Math.ceil(Math.log2(largest / 32767)));
}
