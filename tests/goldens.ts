import { parsePythonJson } from "../pipeline/checkpoint/source/json.ts";

/** A tensor of a golden file; integers and floats alike as the array that holds them exactly. */
export interface GoldenTensor {
  dtype: string;
  shape: number[];
  data: Float64Array | Float32Array | Int32Array;
}

/** Reads `tests/goldens/NAME.safetensors`, with the story that it carries in its metadata. */
// deno-lint-ignore no-explicit-any
export async function loadGoldens(name: string): Promise<{ tensors: Map<string, GoldenTensor>; note: any }> {
  return await readGoldens(new URL(`./goldens/${name}.safetensors`, import.meta.url));
}

/** As {@linkcode loadGoldens}, for a file anywhere. */
// deno-lint-ignore no-explicit-any
export async function readGoldens(path: URL | string): Promise<{ tensors: Map<string, GoldenTensor>; note: any }> {
  return parseGoldens(await Deno.readFile(path));
}

/** The tensors and the note of a golden file's bytes. */
// deno-lint-ignore no-explicit-any
export function parseGoldens(bytes: Uint8Array<ArrayBuffer>): { tensors: Map<string, GoldenTensor>; note: any } {
  const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerBytes)));
  const { __metadata__: metadata, ...entries } = header;
  const tensors = new Map<string, GoldenTensor>();
  for (const [key, { dtype, shape, data_offsets: [start, end] }] of Object.entries<GoldenEntry>(entries)) {
    const buffer = bytes.slice(8 + headerBytes + start, 8 + headerBytes + end).buffer;
    tensors.set(key, { dtype, shape, data: READERS[dtype](buffer) });
  }
  return { tensors, note: parsePythonJson(metadata?.note ?? "null") };
}

interface GoldenEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const READERS: Record<string, (buffer: ArrayBuffer) => GoldenTensor["data"]> = {
  F64: (buffer) => new Float64Array(buffer),
  F32: (buffer) => new Float32Array(buffer),
  I32: (buffer) => new Int32Array(buffer),
  U8: (buffer) => Int32Array.from(new Uint8Array(buffer)),
};

/** ‖a − b‖ / ‖b‖ */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new RangeError(`Cannot compare arrays of ${a.length} and ${b.length} values`);
  return Math.hypot(...Array.from(b, (value, i) => a[i] - value)) / Math.hypot(...Array.from(b));
}
