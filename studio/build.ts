/**
 * `deno task studio:build [DIR]`: writes the studio as a static folder, with relative paths and the
 * embedded model beside the page, its weights packed. Any static host serves it, below any path.
 *
 * @module
 */
import { isSafetensors } from "../pipeline/checkpoint/safetensors/format.ts";
import { OutputError } from "../pipeline/errors.ts";
import { writeFolderAtomically } from "../pipeline/output/folder.ts";
import { checkOutputFolder } from "../pipeline/output/target.ts";
import { keepsExactly, packWeights } from "./pack_weights.ts";
import { packedSuffix } from "./packed_weights.ts";
import { BundleError, bundlePage } from "./server/bundle.ts";
import { isModelFile, type PageFiles } from "./server/files.ts";
import { lowered } from "./server/lower.ts";

/** What a first visit loads at most, in bytes: the page, its worker and the model. */
export const FIRST_VISIT = 9_000_000;

/** The sizes of a build. */
export interface BuildReport {
  /** Bytes of all files, the model included. */
  readonly bytes: number;
  /** Bytes of the model's files. */
  readonly modelBytes: number;
  /** Bytes of all scripts, each compressed by gzip. */
  readonly gzippedScriptBytes: number;
}

/** Folder of the embedded model. */
const pocket = new URL("../models/pocket/", import.meta.url);

/**
 * Builds the static folder. Files of the same names are replaced.
 *
 * @param makeFiles makes the files; default: {@linkcode builtFiles}
 * @throws {BundleError} if the page cannot be bundled; {OutputError} if the folder cannot be
 *   written
 */
export async function buildStudio(
  folder: string,
  makeFiles: () => Promise<PageFiles> = builtFiles,
): Promise<BuildReport> {
  await checkOutputFolder(folder);
  const files = await makeFiles();
  await writeFolderAtomically(folder, { overwrite: true }, async (writer) => {
    for (const [path, content] of files) await writer.write(path, async (sink) => await sink(content));
  });
  const scripts = [...files].filter(([path]) => path.endsWith(".js"));
  return {
    bytes: bytesOf(files),
    modelBytes: bytesOf([...files].filter(([path]) => path.startsWith("pocket/"))),
    gzippedScriptBytes: sum(await Promise.all(scripts.map(([, content]) => gzippedBytes(content)))),
  };
}

/** The files of the static folder. */
export async function builtFiles(): Promise<PageFiles> {
  const [page, model] = await Promise.all([bundlePage(), packedModel()]);
  const index = new TextDecoder().decode(page.get("index.html"));
  // Tells the page that the model beside it is packed.
  const marked = new TextEncoder().encode(index.replace("<html", "<html data-model=packed"));
  return new Map([
    ...page,
    ["index.html", marked],
    ...[...model].map(([path, content]) => [`pocket/${path}`, content] as const),
  ]);
}

/** The files of the embedded model that the page loads, with packed weights. */
export async function packedModel(root: URL = pocket): Promise<PageFiles> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const path of (await pathsIn(root)).filter(isModelFile)) {
    const content = await Deno.readFile(new URL(path, root));
    const [folder] = path.split("/");
    if (!isSafetensors(path)) files.set(path, content);
    else {
      const isExact = (tensor: string) => keepsExactly(folder, tensor);
      files.set(`${path}${packedSuffix}`, await packWeights(content, path, { isExact }));
    }
  }
  return files;
}

async function pathsIn(root: URL, prefix = ""): Promise<string[]> {
  const paths: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(new URL(prefix, root))) {
    if (isDirectory) paths.push(...await pathsIn(root, `${prefix}${name}/`));
    else paths.push(`${prefix}${name}`);
  }
  return paths.sort();
}

function bytesOf(files: Iterable<readonly [path: string, content: Uint8Array]>): number {
  return sum([...files].map(([, { length }]) => length));
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
  const megabytes = (value: number) => `${(value / 1e6).toFixed(2)} MB`;
  try {
    const { bytes, modelBytes, gzippedScriptBytes } = await buildStudio(
      folder,
      async () => await lowered(await builtFiles()),
    );
    const scripts = `scripts ${(gzippedScriptBytes / 1e3).toFixed(0)} kB gzipped`;
    console.log(`Wrote ${folder}: ${megabytes(bytes)} in all, of which the model ${megabytes(modelBytes)}; ${scripts}`);
    if (bytes > FIRST_VISIT) {
      console.error(`A first visit must load at most ${megabytes(FIRST_VISIT)}: the page or the model has grown`);
      Deno.exit(1);
    }
  } catch (error) {
    if (!(error instanceof OutputError || error instanceof BundleError)) throw error;
    console.error(`studio:build: ${error.name}: ${error.message}`);
    Deno.exit(1);
  }
}
