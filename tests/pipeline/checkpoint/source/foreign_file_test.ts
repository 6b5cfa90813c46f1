import { assert, assertEquals, assertRejects } from "@std/assert";
import { SafetensorsFile } from "../../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { memoryTree } from "../../../../pipeline/checkpoint/source/file_tree.ts";
import { bytesSource } from "../../../../pipeline/checkpoint/source/byte_source.ts";
import { CheckpointError, SafetensorsError } from "../../../../pipeline/errors.ts";

const text = (content: string) => new TextEncoder().encode(content);
const bytes = (latin1: string, length = 64) => {
  const data = Uint8Array.from(latin1, (char) => char.charCodeAt(0));
  return data.length >= length ? data : Uint8Array.from({ length }, (_, i) => data[i] ?? 7);
};
/** The beginning of a zip archive whose first file has the given name. */
const zip = (name: string) =>
  bytes(`PK\x03\x04\x14\0\0\0\0\0${"\0".repeat(16)}${String.fromCharCode(name.length)}\0\0\0${name}`);

const files: [what: string, content: Uint8Array, said: string[]][] = [
  [
    "a Git LFS pointer",
    text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4265146304\n"),
    ["Git LFS pointer", "4265146304 bytes", "git lfs pull"],
  ],
  ["a web page", text("\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"), ["web page", '"Sign in"']],
  ["a page without a doctype", text("<html lang=en><body>Not found"), ["web page"]],
  ["a server's answer", text('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), ["XML"]],
  ["an API's answer", text('{"error":"Repository not found"}'), ["JSON", "Repository not found"]],
  ["an index", text('{\n "metadata": {"total_size": 8},\n "weight_map": {}}'), ["index of a model in several files"]],
  ["a hub's answer", text("Access to model X is restricted"), ["text", "is restricted"]],
  ["torch.save's archive", zip("archive/data.pkl"), ["pickle", "convert the model"]],
  ["a zip archive", zip("lora/readme.txt"), ["zip archive"]],
  ["an old pickle", bytes("\x80\x02\x8a\nl\xfc\x9cF\xf9"), ["pickle"]],
  ["GGUF", bytes("GGUF\x03\0\0\0"), ["GGUF", ".safetensors"]],
  ["PNG", bytes("\x89PNG\r\n\x1a\n"), ["PNG picture"]],
  ["JPEG", bytes("\xff\xd8\xff\xe0"), ["JPEG picture"]],
  ["WebP", bytes("RIFF\x10\0\0\0WEBP"), ["WebP picture"]],
  ["gzip", bytes("\x1f\x8b\x08"), ["gzip"]],
  ["tar", bytes(`${"name.txt".padEnd(257, "\0")}ustar`, 512), ["tar archive"]],
  ["7-Zip", bytes("7z\xbc\xaf\x27\x1c"), ["7-Zip"]],
  ["zeros", new Uint8Array(4096), ["zero bytes", "interrupted"]],
  ["nothing", new Uint8Array(0), ["empty"]],
  ["the beginning of a safetensors file", text('\x20\x03\0\0\0\0\0\0{"a":'), [
    "header claims 800 bytes",
    "truncated",
    "again",
  ]],
];

for (const [what, content, said] of files) {
  Deno.test(`${what} under a safetensors name is named as what it is`, async () => {
    let isClosed = false;
    const source = { ...bytesSource(content, "model.safetensors"), close: () => void (isClosed = true) };
    const error = await assertRejects(() => SafetensorsFile.open(source), SafetensorsError, "model.safetensors");
    for (const part of said) assert(error.message.includes(part), error.message);
    assert(isClosed);
  });
}

Deno.test("__metadata__: null is the same as none", async () => {
  const header = '{"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} ';
  const content = new Uint8Array([header.length, 0, 0, 0, 0, 0, 0, 0, ...text(header), 5]);
  using file = await SafetensorsFile.open(bytesSource(content, "null.safetensors"));
  assertEquals([file.metadata, await file.float32("a")], [{}, Float32Array.of(5)]);
});

Deno.test("a configuration that is a Git LFS pointer or a web page is named as such", async () => {
  const files = {
    "a.json": text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 472\n"),
    "b.json": text("<!DOCTYPE html><html><title>Not found</title></html>"),
    "c.json": text("{1}"),
  };
  const tree = memoryTree(files, "model");
  await assertRejects(() => tree.readJson("a.json"), CheckpointError, "Git LFS pointer");
  await assertRejects(() => tree.readJson("b.json"), CheckpointError, "web page");
  await assertRejects(() => tree.readJson("c.json"), CheckpointError, "must be JSON");
});
