import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { CLIPTokenizer } from "../../../pipeline/text/tokenizer.ts";
import type { TokenizerFiles } from "../../../pipeline/text/tokenizer_files.ts";
import { directoryTree, fileSource } from "../../../pipeline/checkpoint/source/disk.ts";
import { memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { parsePythonJson } from "../../../pipeline/checkpoint/source/json.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { CheckpointError, ConfigError, PromptError } from "../../../pipeline/errors.ts";
import { goldens, pocket, referenceFolder, repository } from "../../paths.ts";

const pocketTokenizer = `${pocket}/tokenizer`;

const readJson = async (path: string) => JSON.parse(await Deno.readTextFile(path));

/** The pocket tokenizer's files, for tests that change one of them. */
async function pocketFiles(): Promise<TokenizerFiles> {
  return {
    vocab: await readJson(`${pocketTokenizer}/vocab.json`),
    merges: await Deno.readTextFile(`${pocketTokenizer}/merges.txt`),
    config: await readJson(`${pocketTokenizer}/tokenizer_config.json`),
    specialTokensMap: await readJson(`${pocketTokenizer}/special_tokens_map.json`),
  };
}

/** What tests/reference/tokenizer.py recorded of one text. */
interface Answer {
  text: string;
  ids: number[];
  ids77: number[];
  tokens: string[];
  decoded: string;
  plain: string;
  cut: string;
}

function checkAnswers(tokenizer: CLIPTokenizer, answers: Answer[]): void {
  for (const answer of answers) {
    const { text } = answer;
    const ids = tokenizer.encode(text);
    const mine: Answer = {
      text,
      ids,
      ids77: tokenizer.encode(text, { padding: "max_length", truncation: true }),
      tokens: tokenizer.tokens(text),
      decoded: tokenizer.decode(ids),
      plain: tokenizer.decode(ids, { skipSpecialTokens: true }),
      cut: tokenizer.cut(text),
    };
    assertEquals(mine, answer);
  }
}

const reference = await readJson(`${referenceFolder}/tokenizer.json`);

Deno.test("difficult and random texts get the same ids, tokens, decoded text and truncation as in transformers", async () => {
  checkAnswers(await CLIPTokenizer.fromPretrained(pocketTokenizer), reference.plain);
});

Deno.test("a pad token that differs from the end token fills prompts and is recognized in texts, as in SD 2.x", async () => {
  const files = await pocketFiles();
  const tokenizer = new CLIPTokenizer({ ...files, specialTokensMap: { ...files.specialTokensMap, pad_token: "!" } });
  assertEquals(tokenizer.padTokenId, 0);
  checkAnswers(tokenizer, reference.padded);
});

Deno.test("added tokens are matched literally, the longest first, as in transformers", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(pocketTokenizer);
  const ids = reference.newTokens.map((token: string) => tokenizer.addToken(token));
  assertEquals(ids, [653, 654, 655, 656]);
  assertEquals(tokenizer.size, 657);
  checkAnswers(tokenizer, reference.added);
});

Deno.test("any ids decode as in transformers, also those that split characters", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(pocketTokenizer);
  for (const { ids, text, plain } of reference.decoded) {
    assertEquals(tokenizer.decode(ids), text);
    assertEquals(tokenizer.decode(ids, { skipSpecialTokens: true }), plain);
  }
});

for (const model of ["sd1-mini", "sd2-mini"]) {
  Deno.test(`the prompts of ${model} get the ids that its text encoder was given`, async () => {
    using recorded = await SafetensorsFile.open(await fileSource(`${goldens}/${model}.safetensors`));
    const { prompts } = parsePythonJson(recorded.metadata.note) as { prompts: string[] };
    const tokenizer = await CLIPTokenizer.fromPretrained(`${goldens}/${model}/tokenizer`);
    const ids = [...prompts, ""].map((text) => tokenizer.encode(text, { padding: "max_length", truncation: true }));
    assertEquals(ids.flat(), Array.from(await recorded.int32("text.input_ids")));
  });
}

const sd14 = `${repository}/../shared/sd14`;
const hasSd14 = await Deno.stat(`${sd14}/tokenizer_goldens.json`).then(() => true, () => false);
Deno.test({
  name: `all ids of the SD 1.4 goldens are equal${hasSd14 ? "" : " (skipped: ../shared/sd14 is not there)"}`,
  ignore: !hasSd14,
  fn: async () => {
    const tokenizer = await CLIPTokenizer.fromPretrained(`${sd14}/tokenizer`);
    const prompts: { text: string; ids: number[]; ids77: number[]; tokens: string[] }[] = await readJson(
      `${sd14}/tokenizer_goldens.json`,
    );
    assert(prompts.length > 1000);
    for (const { text, ids, ids77, tokens } of prompts) {
      assertEquals(tokenizer.encode(text), ids, text);
      assertEquals(tokenizer.encode(text, { padding: "max_length", truncation: true }), ids77, text);
      assertEquals(["<|startoftext|>", ...tokenizer.tokens(text), "<|endoftext|>"], tokens, text);
    }
  },
});

Deno.test("a prompt is truncated to 75 tokens between start and end, and cut() returns the rest", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(pocketTokenizer);
  const fits = "rose ".repeat(75);
  assertEquals(tokenizer.encode(fits).length, 77);
  assertEquals(tokenizer.cut(fits), "");
  const long = `${fits} blue roses`;
  assertEquals(tokenizer.encode(long).length, 79);
  assertEquals(tokenizer.encode(long, { truncation: true }), tokenizer.encode(fits));
  assertEquals(tokenizer.cut(long), "blue roses");
  // Padding without truncation does not shorten a prompt.
  assertEquals(tokenizer.encode(long, { padding: "max_length" }).length, 79);
});

Deno.test("any text encodes to known ids, within the length asked for, and decodes", async () => {
  const tokenizer = await CLIPTokenizer.fromPretrained(pocketTokenizer);
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
      const ids = tokenizer.encode(text, { padding: "max_length", truncation: true });
      assertEquals(ids.length, 77);
      assertEquals(ids[0], tokenizer.bosTokenId);
      assert(ids.includes(tokenizer.eosTokenId));
      assert(ids.every((id) => tokenizer.tokenOf(id) !== undefined));
      tokenizer.decode(ids);
    }),
    { numRuns: 200 },
  );
});

Deno.test("the tokenizer loads equally from a folder path, a file tree and bytes in memory", async () => {
  const names = ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"];
  const files = await Promise.all(names.map(async (name) => [name, await Deno.readFile(`${pocketTokenizer}/${name}`)]));
  const tokenizers = await Promise.all([
    CLIPTokenizer.fromPretrained(pocketTokenizer),
    CLIPTokenizer.fromPretrained(await directoryTree(pocketTokenizer)),
    CLIPTokenizer.fromPretrained(memoryTree(Object.fromEntries(files), "memory")),
  ]);
  for (const tokenizer of tokenizers) {
    const { bosTokenId, eosTokenId, padTokenId, modelMaxLength, size } = tokenizer;
    assertEquals([bosTokenId, eosTokenId, padTokenId, modelMaxLength, size], [651, 652, 652, 77, 653]);
    assertEquals(tokenizer.encode("A pack of roses"), tokenizers[0].encode("A pack of roses"));
  }
});

Deno.test("added tokens that were saved are loaded again, from both folder layouts", async () => {
  const files = await pocketFiles();
  const old = new CLIPTokenizer({ ...files, addedTokens: { "<swirl>": 653 } });
  const added_tokens_decoder = { 653: { content: "<swirl>", special: false } };
  const recent = new CLIPTokenizer({ ...files, config: { ...files.config, added_tokens_decoder } });
  for (const tokenizer of [old, recent]) {
    assertEquals(tokenizer.idOf("<swirl>"), 653);
    assertEquals(tokenizer.tokens("a<swirl>b"), ["a</w>", "<swirl>", "b</w>"]);
    assertEquals(tokenizer.addToken("<next>"), 654);
  }
});

Deno.test("without configuration files the special tokens are CLIP's; those that the vocabulary lacks are appended to it", async () => {
  const { vocab, merges } = await pocketFiles();
  const tokenizer = new CLIPTokenizer({ vocab, merges });
  assertEquals([tokenizer.bosTokenId, tokenizer.padTokenId, tokenizer.modelMaxLength], [651, 652, 77]);
  const padded = new CLIPTokenizer({ vocab, merges, config: { pad_token: "<pad>", model_max_length: 1e30 } });
  assertEquals([padded.padTokenId, padded.modelMaxLength], [653, 77]);
  assertEquals(padded.decode([653]), "<pad>");
});

Deno.test("missing files and invalid contents are rejected, and the error names them", async () => {
  const files = await pocketFiles();
  const vocab = new Blob([JSON.stringify(files.vocab)]);
  const load = (tree: Record<string, Blob>) => CLIPTokenizer.fromPretrained(memoryTree(tree, "t"));
  await assertRejects(() => load({ "merges.txt": new Blob([]) }), CheckpointError, "no vocab.json");
  await assertRejects(() => load({ "vocab.json": vocab }), CheckpointError, "no merges.txt");
  const merges = new Blob([files.merges]);
  await assertRejects(() => load({ "vocab.json": new Blob(["[]"]), "merges.txt": merges }), ConfigError, "JSON object");
  assertThrows(() => new CLIPTokenizer({ ...files, vocab: { a: -1 } }), ConfigError, '"a" is -1');
  assertThrows(() => new CLIPTokenizer({ ...files, vocab: {} }), ConfigError, "map tokens to ids");
  assertThrows(
    () => new CLIPTokenizer({ ...files, addedTokens: { x: "1" } }),
    ConfigError,
    "a text of 1 to 1000 characters and an id",
  );

  const tokenizer = new CLIPTokenizer(files);
  assertThrows(() => tokenizer.decode([653]), PromptError, "653");
  assertThrows(() => tokenizer.addToken(" "), PromptError, "mere space");
  assertThrows(() => tokenizer.addToken("rose</w>"), PromptError, "Choose another name");
  tokenizer.addToken("<swirl>");
  assertThrows(() => tokenizer.addToken("<swirl>"), PromptError, "with id 653");
});

Deno.test("a folder with tokenizer.json alone is the tokenizer of vocab.json and merges.txt", async () => {
  const plain = await CLIPTokenizer.fromPretrained(`${goldens}/sd1-mini/tokenizer`);
  const json = await readJson(`${goldens}/tokenizer_json/tokenizer.json`); // as transformers saved it
  const asFolder = (changes: Record<string, unknown>, config?: unknown) => {
    const file = (content: unknown) => new TextEncoder().encode(JSON.stringify(content));
    const files = { "tokenizer.json": file({ ...json, ...changes }) };
    return memoryTree(config === undefined ? files : { ...files, "tokenizer_config.json": file(config) }, "fast");
  };
  const pairs = json.model.merges.map((pair: string) => pair.split(" ")); // as later versions write them
  const texts = ["A pack of blue roses", "  naïve CAFÉ's 12 <|endoftext|> 薔薇", "it's a wolf-cub, isn't it?", ""];
  for (const tree of [asFolder({}), asFolder({ model: { ...json.model, merges: pairs } })]) {
    const fast = await CLIPTokenizer.fromPretrained(tree);
    assertEquals([fast.bosTokenId, fast.eosTokenId, fast.padTokenId], [
      plain.bosTokenId,
      plain.eosTokenId,
      plain.padTokenId,
    ]);
    for (const text of texts) {
      assertEquals(
        fast.encode(text, { padding: "max_length", truncation: true }),
        plain.encode(text, { padding: "max_length", truncation: true }),
      );
    }
  }
  const added = { id: plain.size, content: "<rose>", special: false };
  const taught = await CLIPTokenizer.fromPretrained(
    asFolder({ added_tokens: [...json.added_tokens, added], padding: { pad_token: "!" } }, { model_max_length: 77 }),
  );
  assertEquals(taught.encode("a <rose>").slice(-2), [plain.size, plain.eosTokenId]);
  assertEquals(taught.padTokenId, plain.idOf("!"));
  for (const model of [{ ...json.model, type: "WordPiece" }, { ...json.model, end_of_word_suffix: null }, null]) {
    await assertRejects(() => CLIPTokenizer.fromPretrained(asFolder({ model })), ConfigError, "tokenizer.json");
  }
  await assertRejects(() => CLIPTokenizer.fromPretrained(memoryTree({}, "empty")), CheckpointError, "tokenizer.json");
});

Deno.test("tokens have one id each, settings their kind, and pairs two texts", async () => {
  const text = (value: unknown) => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
  const whole = {
    "vocab.json": { "a</w>": 0, a: 1, "<|startoftext|>": 2, "<|endoftext|>": 3 },
    "merges.txt": "#version: 0.2",
  };
  const model = { type: "BPE", end_of_word_suffix: "</w>", vocab: whole["vocab.json"], merges: [] };
  const refused: readonly (readonly [files: Record<string, unknown>, says: string])[] = [
    [{ "vocab.json": { a: 0, b: 0 } }, "are both 0"],
    [{ "added_tokens.json": { "<x>": 2 } }, "has the id of"],
    [{ "added_tokens.json": { "<x>": 7, "<y>": 7 } }, "has the id of"],
    [{ "added_tokens.json": { "a</w>": 7 } }, "two ids"],
    [{ "added_tokens.json": { ["x".repeat(1001)]: 7 } }, "1 to 1000 characters"],
    [{ "tokenizer_config.json": { added_tokens_decoder: [] } }, "must map ids to tokens"],
    [{ "tokenizer_config.json": { added_tokens_decoder: { "1e3": { content: "<x>" } } } }, "has id"],
    [{ "tokenizer_config.json": { model_max_length: -5 } }, "model_max_length must be"],
    [{ "tokenizer_config.json": { model_max_length: "77" } }, "model_max_length must be"],
    [{ "tokenizer_config.json": { bos_token: 5 } }, "bos_token must be"],
    [{ "special_tokens_map.json": { eos_token: { toString: 1 } } }, "eos_token must be"],
    [{ "tokenizer_config.json": { additional_special_tokens: "x" } }, "additional_special_tokens must be"],
    [{ "tokenizer_config.json": { clean_up_tokenization_spaces: "x" } }, "clean_up_tokenization_spaces must be"],
    ...[{ toString: 1 }, [{ toString: 1 }, "a"], null, ["a"], ["a b", "c"], "a\nb c"].map((pair) =>
      [{ "vocab.json": undefined, "tokenizer.json": { model: { ...model, merges: [pair] } } }, "model.merges"] as const
    ),
    ...[{ content: { toString: 1 }, id: 7 }, { id: 7 }].map((token) =>
      [{ "vocab.json": undefined, "tokenizer.json": { model, added_tokens: [token] } }, "added_tokens"] as const
    ),
  ];
  for (const [changes, says] of refused) {
    const files = Object.entries({ ...whole, ...changes }).flatMap(([path, value]) =>
      value === undefined ? [] : [[path, text(value)] as const]
    );
    const tree = memoryTree(Object.fromEntries(files), "tokenizer");
    await assertRejects(() => CLIPTokenizer.fromPretrained(tree), ConfigError, says, JSON.stringify(changes));
  }
});

Deno.test("100,000 added tokens are found in linear work, the longest of a place first", async () => {
  const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const added = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`<t${i}`, 10 + i]));
  const tree = memoryTree({
    "vocab.json": text({ "x</w>": 0, x: 1, "<|startoftext|>": 2, "<|endoftext|>": 3 }),
    "merges.txt": new TextEncoder().encode("#version: 0.2"),
    "added_tokens.json": text(added),
  }, "tokenizer");
  const tokenizer = await CLIPTokenizer.fromPretrained(tree);
  assertEquals(tokenizer.encode("x<t123x<t1<t99999").slice(1, -1), [0, 133, 0, 11, 100_009]);
});
