/** The static build: its size, its paths, its model. */
import { assert, assertEquals } from "@std/assert";
import { directoryTree } from "../../pipeline/checkpoint/source/disk.ts";
import { inspectFolder } from "../../pipeline/inspection.ts";
import { buildStudio } from "../../studio/build.ts";
import { gpuTest } from "../gpu.ts";

gpuTest("the static folder is small, relative, asks nothing of other hosts, and holds the model in f16", async () => {
  const folder = await Deno.makeTempDir();
  const { bytes, gzippedScriptBytes } = await buildStudio(folder);
  console.log(`${(bytes / 1e6).toFixed(2)} MB in all, scripts ${(gzippedScriptBytes / 1e3).toFixed(0)} kB gzipped`);
  assert(gzippedScriptBytes <= 400_000, `scripts: ${gzippedScriptBytes} bytes gzipped`);

  const { parts, problems } = await inspectFolder(await directoryTree(`${folder}/pocket`));
  assertEquals(problems, []);
  assertEquals(parts.map(({ part }) => part).sort(), ["scheduler", "text_encoder", "tokenizer", "unet", "vae"]);
  for (const { part, dtypes, parameters } of parts) {
    if (parameters > 0) assertEquals(Object.keys(dtypes), ["F16"], part);
  }
  const modelBytes = 2 * parts.reduce((sum, { parameters }) => sum + parameters, 0);
  assert(bytes - modelBytes < 1_000_000, `beside the weights: ${bytes - modelBytes} bytes`);

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
