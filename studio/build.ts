/**
 * `deno task studio:build [DIR]`: writes the studio as a static folder, with relative paths and the
 * embedded model in f16 beside the page. Any static host serves it, below any path.
 *
 * @module
 */
import { OutputError } from "../pipeline/errors.ts";
import { writeFolderAtomically } from "../pipeline/output/folder.ts";
import { checkOutputFolder } from "../pipeline/output/target.ts";
import { StableDiffusionPipeline } from "../pipeline/stable_diffusion.ts";
import { BundleError, bundlePage } from "./server/bundle.ts";

/** What a first visit loads at most. */
export interface BuildReport {
  /** Bytes of all files of the build, the model included. */
  readonly bytes: number;
  /** Bytes of all scripts, each compressed by gzip. */
  readonly gzippedScriptBytes: number;
}

/** Folder of the embedded model. */
const pocket = decodeURIComponent(new URL("../models/pocket/", import.meta.url).pathname)
  .replace(/^\/(?=[A-Za-z]:)/, "");

/**
 * Builds the static folder. Files of the same names are replaced.
 *
 * @throws {BundleError} if the page cannot be bundled; {OutputError} if the folder cannot be
 *   written
 */
export async function buildStudio(folder: string): Promise<BuildReport> {
  await checkOutputFolder(folder);
  const page = await bundlePage();
  using pipe = await StableDiffusionPipeline.fromPretrained(pocket);
  // The model first: where there is a page, there is its model.
  await pipe.savePretrained(`${folder}/pocket`, { dtype: "f16", overwrite: true });
  await writeFolderAtomically(folder, { overwrite: true }, async (writer) => {
    for (const [path, content] of page) await writer.write(path, async (sink) => await sink(content));
  });
  const scripts = [...page].filter(([path]) => path.endsWith(".js")).map(([, content]) => content);
  return {
    bytes: sum([...page.values()].map(({ length }) => length)) + await folderBytes(`${folder}/pocket`),
    gzippedScriptBytes: sum(await Promise.all(scripts.map(gzippedBytes))),
  };
}

async function folderBytes(folder: string): Promise<number> {
  const sizes: number[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    sizes.push(isDirectory ? await folderBytes(path) : (await Deno.stat(path)).size);
  }
  return sum(sizes);
}

async function gzippedBytes(content: Uint8Array<ArrayBuffer>): Promise<number> {
  const stream = new Blob([content]).stream().pipeThrough(new CompressionStream("gzip"));
  return (await new Response(stream).arrayBuffer()).byteLength;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

if (import.meta.main) {
  const folder = Deno.args[0] ?? "studio-build";
  try {
    const { bytes, gzippedScriptBytes } = await buildStudio(folder);
    console.log(
      `Wrote ${folder}: ${(bytes / 1e6).toFixed(2)} MB in all, scripts ${
        (gzippedScriptBytes / 1e3).toFixed(0)
      } kB gzipped`,
    );
  } catch (error) {
    if (!(error instanceof OutputError || error instanceof BundleError)) throw error;
    console.error(`studio:build: ${error.name}: ${error.message}`);
    Deno.exit(1);
  }
}
