/**
 * Saves tunings, and how far a tuning is that has not ended.
 *
 * @module
 */
import * as v from "valibot";
import { type AdapterTuning, TuningError } from "../kernels/tuning.ts";
import { disk } from "../pipeline/output/disk.ts";
import { writeJson } from "../pipeline/output/file.ts";
import { withLock } from "../pipeline/output/lock.ts";
import { ignoreMissing, textAt } from "../pipeline/output/paths.ts";
import { listOf, type Schema, text, validateJson } from "../pipeline/schema.ts";
import { savedTuning, tuningFile } from "../pipeline/tuning_file.ts";
import { keep } from "./kept.ts";

/**
 * Saves the tuning of an adapter beside those of others, all or nothing. Returns the path.
 *
 * @throws {TuningError} when the present file cannot be read or is not a tuning; it stays as it is
 */
export async function saveTuning(adapter: string, tuning: AdapterTuning): Promise<string> {
  const path = tuningFile();
  await savedTuning({ requireRead: true }); // throws before anything is written
  // Two tuners of different adapters both keep their results.
  await withLock(path, async () => {
    await writeJson(path, { ...await savedTuning({ requireRead: true }), [adapter]: tuning });
  });
  return path;
}

/** The steps that unfinished tunings have taken, by adapter. */
type Progress = Readonly<Record<string, readonly string[]>>;

const progressSchema: Schema<Progress> = v.record(
  v.string(),
  listOf(text(), { max: 10_000 }),
  "an object with adapter names as keys",
);

/**
 * A tuning in progress. Every step is saved at once: its result in the tuning file, its name in a
 * file beside it, `NAME.unfinished`. The next tuning of the adapter leaves out the steps named
 * there.
 */
export class UnfinishedTuning {
  /** The tuning that was saved before. */
  readonly tuning: AdapterTuning;
  readonly #adapter: string;
  readonly #taken: Set<string>;

  private constructor(adapter: string, tuning: AdapterTuning, taken: readonly string[]) {
    this.#adapter = adapter;
    this.tuning = tuning;
    this.#taken = new Set(taken);
  }

  /** Reads what is saved for an adapter. @throws {TuningError} when a file cannot be read */
  static async open(adapter: string): Promise<UnfinishedTuning> {
    const [saved, progress] = [await savedTuning({ requireRead: true }), await savedProgress()];
    const own = <T>(of: Readonly<Record<string, T>>) => Object.hasOwn(of, adapter) ? of[adapter] : undefined;
    return new UnfinishedTuning(adapter, own(saved) ?? {}, own(progress) ?? []);
  }

  /** Whether a step was taken. */
  has(step: string): boolean {
    return this.#taken.has(step);
  }

  /** Saves the tuning after a step. */
  async save(step: string, tuning: AdapterTuning): Promise<void> {
    keep(await saveTuning(this.#adapter, tuning));
    this.#taken.add(step);
    await changeProgress((others) => ({ ...others, [this.#adapter]: [...this.#taken] }));
  }

  /** Notes that all steps are taken. Returns the path of the tuning. */
  async finish(): Promise<string> {
    await changeProgress(({ [this.#adapter]: _, ...others }) => others);
    return tuningFile();
  }
}

/** The file of {@linkcode Progress}. */
export function progressFile(): string {
  return `${tuningFile()}.unfinished`;
}

async function savedProgress(): Promise<Progress> {
  const path = progressFile(), json = await textAt(path);
  if (json === undefined) return {};
  return validateJson(
    progressSchema,
    json,
    (reason) => new TuningError(`Cannot read the progress of a tuning from ${path} as ${reason}. Remove the file`),
  );
}

async function changeProgress(change: (progress: Progress) => Progress): Promise<void> {
  const path = progressFile();
  await withLock(path, async () => {
    const progress = change(await savedProgress());
    if (Object.keys(progress).length > 0) await writeJson(path, progress);
    else await disk.remove(path).catch(ignoreMissing);
  });
}
