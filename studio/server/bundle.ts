/** Bundles the page and its worker. @module */

import type { PageFiles } from "./files.ts";

/** The page's folder. */
const folder = new URL("../page/", import.meta.url);

/**
 * Packages that the studio never uses, although modules that it uses can load them: jimp encodes
 * JPEG, the hub's client downloads models.
 */
const neverLoaded = ["jimp", "@huggingface/hub"];

/** Nothing is written there: names of bundled files are relative to it. */
const virtualFolder = "/bundle";

/** The page cannot be bundled. */
export class BundleError extends Error {
  override name = "BundleError";
}

/**
 * The files of the page: scripts, minified, and what lies beside them.
 *
 * @throws {BundleError} where Deno cannot bundle, or the page is not on disk
 */
export async function bundlePage(): Promise<PageFiles> {
  if (folder.protocol !== "file:") {
    throw new BundleError(
      "Cannot bundle the studio's page as its sources are not on disk: run it from a copy of the repository",
    );
  }
  if (!("bundle" in Deno)) {
    throw new BundleError("Cannot bundle the studio's page without Deno's bundler: run deno with --unstable-bundle");
  }
  const result = await Deno.bundle({
    entrypoints: ["main.tsx", "worker.ts", "disposal.ts"].map((name) => pathOf(new URL(name, folder))),
    outputDir: virtualFolder,
    platform: "browser",
    codeSplitting: true,
    minify: true,
    external: neverLoaded,
    write: false,
  });
  if (!result.success || result.outputFiles === undefined) {
    const reasons = result.errors.map(({ text }) => text).join("; ");
    throw new BundleError(`Cannot bundle the studio's page: ${reasons || "the bundler gave no files"}`);
  }
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const { path, contents } of result.outputFiles) {
    files.set(path.slice(path.lastIndexOf(virtualFolder) + virtualFolder.length + 1).replaceAll("\\", "/"), contents!);
  }
  for (const path of await assets(folder)) files.set(path, await Deno.readFile(new URL(path, folder)));
  return files;
}

/** What the page needs beside its scripts: HTML, styles and fonts, as paths. */
async function assets(folder: URL, prefix = ""): Promise<string[]> {
  const paths: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(new URL(prefix, folder))) {
    if (isDirectory) paths.push(...await assets(folder, `${prefix}${name}/`));
    else if (!/\.tsx?$/.test(name)) paths.push(`${prefix}${name}`);
  }
  return paths.sort();
}

function pathOf(url: URL): string {
  return decodeURIComponent(url.pathname).replace(/^\/(?=[A-Za-z]:)/, "");
}
