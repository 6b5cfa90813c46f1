import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { bytesSource } from "../../pipeline/checkpoint/source/byte_source.ts";
import { SafetensorsFile } from "../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { SafetensorsError } from "../../pipeline/errors.ts";
import { fuzz, fuzzParameters, fuzzRuns } from "./fuzz.ts";
import { fileOfEntries, fileOfHeader, headers, metadata, tensors } from "./safetensors_inputs.ts";

const open = (bytes: Uint8Array): Promise<SafetensorsFile> => SafetensorsFile.open(bytesSource(bytes, "x.safetensors"));

/** The names of the file's tensors, or the error with which it was refused. Other errors pass. */
async function outcome(bytes: Uint8Array): Promise<string[] | SafetensorsError> {
  try {
    using file = await open(bytes);
    for (const name of file.tensors.keys()) await file.read(name);
    return [...file.tensors.keys()].sort();
  } catch (error) {
    if (error instanceof SafetensorsError) return error;
    throw error;
  }
}

Deno.test("any tensors and metadata come back from a file as they were written", async () => {
  await fuzz(
    fc.tuple(tensors, metadata),
    async ([entries, notes]) => {
      const bytes = await fileOfEntries(entries, notes);
      using file = await open(bytes);
      assertEquals(new Set(file.tensors.keys()), new Set(entries.map(({ name }) => name)));
      assertEquals(Object.entries(file.metadata), Object.entries(notes ?? {}));
      for (const { name, dtype, shape, chunks } of entries) {
        const info = file.info(name);
        assertEquals([info.dtype, info.shape], [dtype, shape]);
        const [expected] = chunks() as Uint8Array[];
        assertEquals(await file.read(name), expected);
      }
      assertEquals((bytes[0] + 256 * bytes[1]) % 8, 0);
    },
    200,
  );
});

Deno.test("any damage to a header is refused with SafetensorsError or leaves a file that reads", async () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 });
  await fuzz(
    fc.tuple(tensors, damage, fc.option(fc.nat(), { nil: undefined })),
    async ([entries, changes, cut]) => {
      let bytes = await fileOfEntries(entries, { k: "v" });
      const headerEnd = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
      for (const [at, value] of changes) bytes[at % headerEnd] = value;
      if (cut !== undefined) bytes = bytes.slice(0, cut % bytes.length);
      await outcome(bytes);
    },
    500,
  );
});

Deno.test("any text for a header is refused with SafetensorsError or is legal", async () => {
  const words = ["{", "}", "[", "]", ":", ",", '"a"', '"dtype"', '"U8"', '"shape"', '"data_offsets"', "0", "1", "\\"];
  const soup = fc.array(fc.constantFrom(...words, '"'), { maxLength: 30 }).map((parts) => "{" + parts.join(""));
  await fuzz(
    fc.oneof(soup, fc.json({ maxDepth: 4 }), fc.string({ unit: "binary" })),
    async (header) => void await outcome(fileOfHeader(header)),
    1000,
  );
});

/** Reads length-prefixed files from stdin; prints a JSON list of names, or null where refused. */
const reference = `
import json, struct, sys
import safetensors
data = sys.stdin.buffer
while head := data.read(4):
    try:
        print(json.dumps(sorted(name for name, _ in safetensors.deserialize(data.read(struct.unpack("<I", head)[0])))))
    except Exception:
        print("null")
`;

/** A Python with safetensors ≥ 0.6, or null. `BLUEROSE_PYTHON` names the interpreter. */
async function findPython(): Promise<string | null> {
  for (const python of [Deno.env.get("BLUEROSE_PYTHON"), "python3"]) {
    if (python === undefined) continue;
    const args = ["-c", "import safetensors as s; assert tuple(map(int, s.__version__.split('.')[:2])) >= (0, 6)"];
    const { success } = await new Deno.Command(python, { args, stdout: "null", stderr: "null" }).output()
      .catch(() => ({ success: false }));
    if (success) return python;
  }
  return null;
}

/** What this reader refuses on purpose and the reference implementation accepts. */
const stricter = [
  / twice$/, // the format forbids duplicate keys; the reference takes the last
  / must be described by an object$/, // the reference also takes a list of the three fields
  / has the dtype \{/, // the reference also takes {"U8": null}
  /\b\d{16,}\b.* (is|which is) (no list of sizes|too large to count)$/, // sizes that a double cannot hold
  /nests deeper/,
];

const python = await findPython();

Deno.test({
  name: "a header is accepted exactly where the reference implementation accepts it, with the same names",
  ignore: python === null, // no Python with safetensors 0.6 or later
  fn: async () => {
    const inputs = fc.sample(headers, fuzzParameters(4000));
    const files = inputs.map(({ header, dataBytes }) => fileOfHeader(header, dataBytes));
    const child = new Deno.Command(python!, { args: ["-c", reference], stdin: "piped", stdout: "piped" }).spawn();
    const writing = new Blob(files.flatMap((file) => [Uint32Array.of(file.length), file])).stream().pipeTo(child.stdin);
    const [{ stdout }] = await Promise.all([child.output(), writing]);
    const verdicts = new TextDecoder().decode(stdout).trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(verdicts.length, files.length);
    let accepted = 0;
    for (const [i, file] of files.entries()) {
      const ours = await outcome(file);
      if (ours instanceof SafetensorsError) {
        const allowed = verdicts[i] === null || stricter.some((rule) => rule.test(ours.message));
        assert(allowed, `${inputs[i].header} is refused: ${ours.message}`);
      } else {
        assertEquals(ours, verdicts[i], inputs[i].header);
        accepted++;
      }
    }
    assert(accepted > fuzzRuns(4000) / 20, `only ${accepted} of the headers were legal`);
  },
});
