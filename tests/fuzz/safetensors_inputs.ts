/**
 * Random safetensors files: legal ones, damaged ones, and headers that are close to legal.
 *
 * @module
 */

import fc from "fast-check";
import type { SafetensorsDtype } from "../../pipeline/checkpoint/safetensors/format.ts";
import { bitsOf } from "../../pipeline/checkpoint/safetensors/format.ts";
import type { TensorEntry } from "../../pipeline/checkpoint/safetensors/writer.ts";
import { writeSafetensors } from "../../pipeline/checkpoint/safetensors/writer.ts";

/** A file of the given header text and `dataBytes` zeros. */
export function fileOfHeader(header: string, dataBytes = 0): Uint8Array<ArrayBuffer> {
  const body = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + body.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(body.length), true);
  file.set(body, 8);
  return file;
}

/** The bytes of a file that the project's own writer makes. */
export async function fileOfEntries(
  entries: TensorEntry[],
  metadata?: Record<string, string>,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  await writeSafetensors(entries, (chunk) => void chunks.push(chunk.slice()), { metadata });
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

const dtypes: SafetensorsDtype[] = ["BOOL", "U8", "F16", "BF16", "I32", "F32", "F64", "I64", "F8_E4M3", "C64"];

/** Some tensors with small shapes, of any names. */
export const tensors: fc.Arbitrary<TensorEntry[]> = fc.dictionary(
  fc.string({ unit: "binary", maxLength: 12 }).filter((name) => name.isWellFormed() && name !== "__metadata__"),
  fc.record({
    dtype: fc.constantFrom(...dtypes),
    shape: fc.array(fc.nat({ max: 4 }), { maxLength: 4 }),
    first: fc.nat({ max: 255 }),
  }),
  { maxKeys: 8 },
).map((described) =>
  Object.entries(described).map(([name, { dtype, shape, first }]): TensorEntry => {
    const bytes = shape.reduce((product, size) => product * size, bitsOf[dtype] / 8);
    return { name, dtype, shape, chunks: () => [Uint8Array.from({ length: bytes }, (_, i) => first + i)] };
  })
);

/** Metadata, or none. */
export const metadata: fc.Arbitrary<Record<string, string> | undefined> = fc.option(
  fc.dictionary(fc.string(), fc.string(), { maxKeys: 4 }),
  { nil: undefined },
);

const space = fc.oneof({ weight: 8, arbitrary: fc.constant("") }, fc.stringMatching(/^[ \n\r\t]{1,24}$/));
const name = fc.oneof(
  fc.constantFrom("a", "b", "__metadata__", "dtype", "__proto__", "constructor"),
  fc.string({ maxLength: 3 }),
).map((text) => JSON.stringify(text));
const escapedName = name.map((literal) =>
  literal.replace(/[a-z]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)
);
const size = fc.oneof(
  { weight: 8, arbitrary: fc.nat({ max: 4 }).map(String) },
  fc.constantFrom("-0", "1.0", "1e0", "01", "4294967296", "1099511627776", "9007199254740993", "18446744073709551615"),
  fc.constantFrom("18446744073709551616", "null", '"1"', "[1]", "true"),
);
const list = fc.array(size, { maxLength: 4 }).map((sizes) => `[${sizes.join(",")}]`);
const text = fc.oneof(
  fc.string({ maxLength: 4 }).map((value) => JSON.stringify(value)),
  fc.constantFrom('"\\ud800"', '"\\udc00x"', '"\\ud83c\\udf39"', '"\\x"', '"\n"', "null", "1"),
);
const someDtype = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...Object.keys(bitsOf)).map((dtype) => JSON.stringify(dtype)) },
  fc.constantFrom('"F31"', "null", '"f32"', '{"U8":null}'),
);

function object(fields: fc.Arbitrary<[key: string, value: string]>, maxLength: number): fc.Arbitrary<string> {
  return fc.array(fc.tuple(fields, space, space), { maxLength }).map((entries) =>
    `{${entries.map(([[key, value], before, after]) => `${key}${before}:${after}${value}`).join(",")}}`
  );
}

/** A tensor's entry whose byte range follows from its shape, so that most are legal when alone. */
const legalEntry = fc.record({
  dtype: fc.constantFrom(...Object.keys(bitsOf) as SafetensorsDtype[]),
  shape: fc.array(fc.nat({ max: 3 }), { maxLength: 3 }),
}).map(({ dtype, shape }) => {
  const bytes = shape.reduce((product, length) => product * length, bitsOf[dtype]) / 8;
  return `{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[0,${bytes}]}`;
});
const anyEntry = object(
  fc.oneof(
    fc.tuple(fc.constant('"dtype"'), someDtype),
    fc.tuple(fc.constant('"shape"'), list),
    fc.tuple(fc.constant('"data_offsets"'), fc.constantFrom("[0,0]", "[0,1]", "[0,8]", "[1,0]", "[0]")),
    fc.tuple(name, fc.oneof(text, size, list)),
  ),
  5,
);
const emptyEntry = fc.tuple(list, someDtype).map(([shape, dtype]) =>
  `{"dtype":${dtype},"shape":${shape},"data_offsets":[0,0]}`
);
const metadataValue = fc.oneof(object(fc.tuple(fc.oneof(name, escapedName), text), 3), fc.constantFrom("null", "[]"));

/** Header texts that are legal, or nearly so, with the bytes of data that follow. */
export const headers: fc.Arbitrary<{ header: string; dataBytes: number }> = fc.record({
  header: object(
    fc.oneof(
      { weight: 2, arbitrary: fc.tuple(fc.constant('"__metadata__"'), metadataValue) },
      { weight: 6, arbitrary: fc.tuple(fc.oneof(name, escapedName), fc.oneof(legalEntry, anyEntry, emptyEntry)) },
    ),
    3,
  ).chain((header) => space.map((after) => header + after)),
  dataBytes: fc.constantFrom(0, 0, 0, 1, 2, 4, 8, 16),
});
