/**
 * Keeps history in the browser (IndexedDB), pictures compressed without loss. Entries that cannot
 * be read are dropped.
 *
 * @module
 */

import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import * as v from "valibot";
import type { Pixels } from "../painter.ts";
import { recipeSchema } from "./recipe_schema.ts";
import { type Drawn, type HistoryEntry, requestKey, requestOf, type Side } from "./state.ts";

/** A picture as it is stored. */
interface StoredPicture {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue and opaque bytes, gzipped. */
  readonly data: Blob;
}

interface StoredPair {
  readonly before?: StoredPicture;
  readonly after?: StoredPicture;
  readonly change?: number;
}

interface StoredEntry extends Omit<HistoryEntry, "pictures"> {
  readonly pictures: readonly StoredPair[];
}

interface Schema extends DBSchema {
  drawings: { key: number; value: StoredEntry };
  /** Handles of the visitor's own models, by name. */
  models: { key: string; value: FileSystemHandle };
}

/** Entries that are kept; older ones are dropped. */
const maxEntries = 60;

/** History on disk. */
export class HistoryStore {
  readonly #database: IDBPDatabase<Schema>;

  private constructor(database: IDBPDatabase<Schema>) {
    this.#database = database;
  }

  /** Opens the browser's store. Fails where the browser forbids it, as in private windows. */
  static async open(name = "bluerose-studio"): Promise<HistoryStore> {
    const database = await openDB<Schema>(name, 1, {
      upgrade(database) {
        database.createObjectStore("drawings", { keyPath: "id" });
        database.createObjectStore("models");
      },
      blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
    });
    return new HistoryStore(database);
  }

  /** All entries, the newest first. */
  async all(): Promise<HistoryEntry[]> {
    const stored = await this.#database.getAll("drawings");
    const entries = await Promise.all(stored.map((entry) => unpacked(entry).catch(() => undefined)));
    return entries.filter((entry) => entry !== undefined).sort((a, b) => b.id - a.id);
  }

  /** Writes what has changed from one list to the next. Entries of other tabs stay. */
  async keep(before: readonly HistoryEntry[], after: readonly HistoryEntry[]): Promise<void> {
    const kept = after.slice(0, maxEntries);
    const [had, has] = [before, kept].map((entries) => new Set(entries.map(({ id }) => id)));
    const added = await Promise.all(kept.filter(({ id }) => !had.has(id)).map(packed));
    const removed = [...before, ...after].filter(({ id }) => !has.has(id));
    const transaction = this.#database.transaction("drawings", "readwrite");
    await Promise.all([
      ...added.map((entry) => transaction.store.put(entry)),
      ...removed.map(({ id }) => transaction.store.delete(id)),
      transaction.done,
    ]);
  }

  /** Remembers where the visitor's model lies. */
  async rememberModel(handle: FileSystemHandle): Promise<void> {
    await this.#database.clear("models");
    await this.#database.put("models", handle, handle.name);
  }

  /** The model that was remembered last. */
  async rememberedModel(): Promise<FileSystemHandle | undefined> {
    return (await this.#database.getAll("models")).at(-1);
  }

  /** Closes the store. */
  close(): void {
    this.#database.close();
  }
}

async function packed(entry: HistoryEntry): Promise<StoredEntry> {
  const pictures = await Promise.all(entry.pictures.map(async ({ before, after, change }) => ({
    ...(before ? { before: await packedPixels(before.pixels) } : {}),
    ...(after ? { after: await packedPixels(after.pixels) } : {}),
    ...(change === undefined ? {} : { change }),
  })));
  return { ...entry, pictures };
}

async function unpacked(entry: StoredEntry): Promise<HistoryEntry> {
  const recipe = v.parse(recipeSchema, entry.recipe);
  const pictures = await Promise.all(recipe.prompts.map(async ({ text }, i) => {
    const { before, after, change } = entry.pictures[i] ?? {};
    const drawn = async (side: Side, picture: StoredPicture | undefined): Promise<Drawn | undefined> => {
      if (picture === undefined) return undefined;
      const request = requestOf(text, side, recipe);
      return { request, key: requestKey(request, entry.model), pixels: await unpackedPixels(picture) };
    };
    return { before: await drawn("before", before), after: await drawn("after", after), change };
  }));
  return { id: entry.id, time: entry.time, model: entry.model, recipe, pictures };
}

async function packedPixels({ width, height, data }: Pixels): Promise<StoredPicture> {
  const stream = new Blob([data]).stream().pipeThrough(new CompressionStream("gzip"));
  return { width, height, data: await new Response(stream).blob() };
}

async function unpackedPixels({ width, height, data }: StoredPicture): Promise<Pixels> {
  const stream = data.stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8ClampedArray(await new Response(stream).arrayBuffer());
  if (bytes.length !== width * height * 4) throw new RangeError("The picture is incomplete");
  return { width, height, data: bytes };
}
