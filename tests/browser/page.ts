/**
 * The page of the browser test: `draw(files)` generates images with the pocket model from files
 * fetched over HTTP.
 *
 * @module
 */
import { memoryTree } from "../../mod.ts";
import { type Drawing, drawPocket } from "../pocket_drawing.ts";

async function draw(paths: readonly string[]): Promise<Drawing> {
  const files = await Promise.all(paths.map(async (path) => [path, await (await fetch(`/model/${path}`)).blob()]));
  return await drawPocket(memoryTree(Object.fromEntries(files), "pocket"));
}

Object.assign(globalThis, { draw });
