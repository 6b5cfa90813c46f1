/** What a hub or a folder claims of its files: listings, and indexes of shards. */

import { assert } from "@std/assert";
import fc from "fast-check";
import type { HubClient } from "../../pipeline/checkpoint/hub/client.ts";
import { readMetadata } from "../../pipeline/checkpoint/hub/client.ts";
import { openWeights } from "../../pipeline/checkpoint/safetensors/weight_files.ts";
import { memoryTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import { CheckpointError, HubError, PathError } from "../../pipeline/errors.ts";
import { fuzz } from "./fuzz.ts";
import { mutated } from "./mutations.ts";
import { fileOfEntries } from "./safetensors_inputs.ts";

const commit = "0123456789abcdef0123456789abcdef01234567";

/** Names that would leave a folder, or that programs treat in a special way. */
const paths = fc.oneof(
  fc.constantFrom("a.safetensors", "b.safetensors", "../a.safetensors", "/etc/passwd", "a/../../b", "", ".", "a\\b"),
  fc.constantFrom("__proto__", "constructor", "a\0.safetensors", "\x1b[2J", "C:/a", "a//b", "./a.safetensors"),
  fc.string({ maxLength: 12 }),
);

/** Whether a path, joined to a folder, stays inside it on any system. */
function staysInside(path: string): boolean {
  return path !== "" && !/^([/\\]|[A-Za-z]:)/.test(path) && !path.split(/[/\\]/).includes("..") && !path.includes("\0");
}

Deno.test("any index of shards binds the tensors of the shards, or is a CheckpointError", async () => {
  const entry = (name: string) => ({ name, shape: [1], dtype: "U8" as const, chunks: () => [Uint8Array.of(1)] });
  const shards = {
    "a.safetensors": await fileOfEntries([entry("x"), entry("y")]),
    "b.safetensors": await fileOfEntries([entry("z"), entry("__proto__")]),
  };
  const whole = { weight_map: { x: "a.safetensors", y: "a.safetensors", z: "b.safetensors" } };
  const made = fc.array(fc.tuple(fc.constantFrom("x", "y", "z", "__proto__", "w"), paths), { maxLength: 5 })
    .map((pairs) => JSON.stringify({ weight_map: Object.fromEntries(pairs) }));
  await fuzz(fc.oneof(made, mutated(whole), fc.string()), async (text) => {
    const index = new TextEncoder().encode(text);
    const tree = memoryTree({ ...shards, "model.safetensors.index.json": index }, "folder");
    try {
      const weights = await openWeights(tree, "model");
      for (const name of weights.tensors.keys()) assert((await weights.read(name)).length === 1);
      weights.close();
    } catch (error) {
      assert(error instanceof CheckpointError, String((error as Error).stack));
    }
  }, 800);
});

Deno.test("any answer of a hub lists files inside the model with sizes and hashes, or is a HubError", async () => {
  const listing = [
    { type: "file", path: "unet/a.safetensors", size: 5, oid: "a".repeat(40), lfs: { size: 5, oid: "b".repeat(64) } },
    { type: "file", path: "config.json", size: 2, oid: "c".repeat(40) },
    { type: "directory", path: "unet", size: 0, oid: "d".repeat(40) },
  ];
  const revision = { _id: "1", id: "owner/model", sha: commit, private: false, downloads: 1, likes: 1, gated: false };
  const named = fc.array(paths, { maxLength: 3 }).map((list) =>
    JSON.stringify(list.map((path) => ({ ...listing[1], path })))
  );
  const inputs = fc.record({
    revision: fc.oneof({ weight: 3, arbitrary: fc.constant(JSON.stringify(revision)) }, mutated(revision), fc.string()),
    listing: fc.oneof(mutated(listing), named, fc.string()),
    status: fc.constantFrom(200, 200, 200, 200, 401, 404, 500, 301),
  });
  await fuzz(inputs, async ({ revision, listing, status }) => {
    const answer = (input: string | URL | Request) => {
      const isListing = String(input instanceof Request ? input.url : input).includes("/tree/");
      const headers = { "Content-Type": "application/json" };
      return Promise.resolve(new Response(isListing ? listing : revision, { status, headers }));
    };
    const client = {
      endpoint: "https://user:pass@hub.example",
      token: "hf_secret0",
      stallTimeoutMs: 1000,
      fetch: answer,
    };
    try {
      const { commit, files } = await readMetadata(client as unknown as HubClient, "owner/model", "main");
      assert(/^[0-9a-f]{40}$/.test(commit));
      for (const { path, size, hash } of files.values()) {
        assert(staysInside(path), JSON.stringify(path));
        assert(Number.isSafeInteger(size) && size >= 0 && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash));
      }
    } catch (error) {
      const { message, stack } = error as Error;
      assert(error instanceof HubError || error instanceof PathError, String(stack));
      assert(!["user:pass", "hf_secret0", "\x1b"].some((text) => message.includes(text)), message);
    }
  }, 500);
});
