/** The static build: its size, its paths, its model. */
import { assert, assertEquals } from "@std/assert";
import { directoryTree } from "../../pipeline/checkpoint/source/disk.ts";
import { inspectFolder } from "../../pipeline/inspection.ts";
import { buildStudio, FIRST_VISIT, packedModel } from "../../studio/build.ts";
import { dataStart, unpackedTree } from "../../studio/packed_weights.ts";
import { memoryTree } from "../../pipeline/checkpoint/source/file_tree.ts";
import { StudioSession } from "../../studio/session.ts";
import { gpuTest } from "../gpu.ts";
import { pocket } from "../paths.ts";
import { blueRoses } from "./requests.ts";

Deno.test("the static folder is small, relative, asks nothing of other hosts, and holds the model", async () => {
  const folder = await Deno.makeTempDir();
  const { bytes, modelBytes, gzippedScriptBytes } = await buildStudio(folder);
  console.log(`${(bytes / 1e6).toFixed(2)} MB in all, scripts ${(gzippedScriptBytes / 1e3).toFixed(0)} kB gzipped`);
  assert(gzippedScriptBytes <= 400_000, `scripts: ${gzippedScriptBytes} bytes gzipped`);
  assert(bytes <= FIRST_VISIT, `${bytes} bytes in all, of which the model ${modelBytes}`);
  assertEquals(await folderBytes(folder), bytes);

  const model = unpackedTree(await directoryTree(`${folder}/pocket`));
  const { parts, problems } = await inspectFolder(model);
  assertEquals(problems, []);
  const own = await inspectFolder(await directoryTree(pocket));
  for (const { part, dtypes, parameters } of parts) {
    assertEquals(parameters, own.parts.find((other) => other.part === part)!.parameters, part);
    if (parameters > 0) assertEquals(Object.keys(dtypes), ["F16"], part);
  }
  assertEquals(parts.map(({ part }) => part).sort(), ["scheduler", "text_encoder", "tokenizer", "unet", "vae"]);

  const html = await Deno.readTextFile(`${folder}/index.html`);
  for (const [, address] of html.matchAll(/(?:src|href)="([^"]*)"/g)) {
    assert(!/^(\/|[a-z]+:\/\/)/.test(address), `${address} is not relative`);
  }
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".js")) continue;
    const script = await Deno.readTextFile(`${folder}/${name}`);
    assert(!/\bfrom"node:|\bimport"node:/.test(script), name);
    const chunks = [...script.matchAll(/(?:from|import)"(\.[^"]+)"|import\("(\.[^"]+)"\)/g)].map(([, a, b]) => a ?? b);
    for (const chunk of chunks) assert((await Deno.stat(`${folder}/${chunk}`)).isFile, chunk);
  }
  await Deno.stat(`${folder}/worker.js`);
  await Deno.remove(folder, { recursive: true });
});

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    bytes += isDirectory ? await folderBytes(path) : (await Deno.stat(path)).size;
  }
  return bytes;
}

gpuTest("a LoRA of the packed model is that of the model, byte for byte, and an edit but for its time", async (gpu) => {
  const packed = unpackedTree(memoryTree(Object.fromEntries(await packedModel()), "packed"));
  const files = await Promise.all([packed, pocket].map(async (pocket) => {
    const session = new StudioSession({ place: "browser", pocket, gpu: () => Promise.resolve(gpu), ownsGpu: false });
    await session.open({ kind: "pocket" }, () => {});
    const [lora, edit] = [await session.saveLora([blueRoses]), await session.saveEdit(blueRoses)];
    await session.close();
    return { lora: lora.bytes, edit: edit.bytes.subarray(dataStart(edit.bytes)) };
  }));
  for (const kind of ["lora", "edit"] as const) {
    const [a, b] = files.map((file) => file[kind]);
    assert(a.length === b.length && a.every((byte, i) => byte === b[i]), kind);
  }
});
