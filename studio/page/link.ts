/**
 * A recipe as the fragment of an address: version, then JSON, deflated, in base64url. Browsers do
 * not send fragments to servers.
 *
 * @module
 */

import { anyText, fields, type Schema, validate } from "../../pipeline/schema.ts";
import { recipeSchema } from "./recipe_schema.ts";
import type { Recipe } from "./state.ts";

/** What a link carries. */
export interface Linked {
  readonly recipe: Recipe;
  /** Name of the model that the recipe was made with. */
  readonly model: string;
}

const version = "1=";

/** Longest fragment that is read, and longest text that it may unpack to. */
const maxFragment = 60_000;
const maxUnpacked = 400_000;

const schema: Schema<Linked> = fields({ recipe: recipeSchema, model: anyText() });

/** A link that cannot be made or read. */
export class LinkError extends Error {
  override name = "LinkError";
}

/**
 * The fragment for a recipe, without `#`.
 *
 * @throws {LinkError} for a recipe that is too long for a link
 */
export async function linkFragment(linked: Linked): Promise<string> {
  const json = new TextEncoder().encode(JSON.stringify(linked));
  const packed = await through(json, new CompressionStream("deflate-raw"));
  const text = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(""));
  const fragment = version + text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  if (fragment.length <= maxFragment && json.length <= maxUnpacked) return fragment;
  throw new LinkError("The recipe is too long for a link: take edits, preserved prompts or test prompts away.");
}

/**
 * Reads a fragment, with or without `#`.
 *
 * @returns `undefined` where the fragment is not a recipe at all, such as an empty one
 * @throws {LinkError} where a recipe is damaged or out of bounds
 */
export async function readFragment(fragment: string): Promise<Linked | undefined> {
  const text = fragment.replace(/^#/, "");
  if (!/^\d+=/.test(text)) return undefined;
  if (!text.startsWith(version)) {
    throw new LinkError("The link was made by a newer version of this page. Reload the page to get that version.");
  }
  if (text.length > maxFragment) throw new LinkError(`The link has more than ${maxFragment} characters.`);
  let value: unknown;
  try {
    const base64 = text.slice(version.length).replaceAll("-", "+").replaceAll("_", "/");
    const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const bytes = await through(packed, new DecompressionStream("deflate-raw"), maxUnpacked);
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new LinkError("The link is damaged: part of it is missing or was changed. Copy it again.");
  }
  return validate(schema, value, (reason) => new LinkError(`The link holds settings that cannot be used: ${reason}.`));
}

/** All bytes that a stream makes of others; more than `max` are refused. */
async function through(
  bytes: Uint8Array<ArrayBuffer>,
  stream: GenericTransformStream,
  max = Infinity,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  const reader = new Blob([bytes]).stream().pipeThrough<Uint8Array<ArrayBuffer>>(stream).getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    size += read.value.length;
    if (size > max) {
      await reader.cancel();
      throw new RangeError("too long");
    }
    parts.push(read.value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
