/**
 * The record of a search, by which it is resumed: the sampler's answers, one line of JSON each.
 *
 * @module
 */
import * as v from "valibot";
import { fields, finite, listOf, type Schema, text, validateJson, whole } from "../../schema.ts";
import { SweepError } from "../sweep/sweep_error.ts";
import type { ShareRequest, ShareSampler } from "./search.ts";

/** An answer of the sampler. */
export interface LoggedDraw {
  /** Fingerprint of the task and its settings. */
  readonly task: string;
  /** Weights of the destinations; null for the unedited model. */
  readonly weights: readonly number[] | null;
  /** How many pictures were asked for before. */
  readonly first: number;
  /** The pictures that fit each destination best. */
  readonly counts: readonly number[];
}

const drawSchema: Schema<LoggedDraw> = fields({
  task: text(),
  weights: v.nullable(listOf(finite(), { max: 1000 })),
  first: whole(0, Number.MAX_SAFE_INTEGER),
  counts: listOf(whole(0, Number.MAX_SAFE_INTEGER), { min: 1, max: 1000 }),
});

/** The line of an answer. */
export function formatDraw({ task, ...draw }: LoggedDraw): string {
  return JSON.stringify({ task, ...draw }) + "\n"; // the task first: parseDraws knows the line by it
}

/** The fingerprint of a task with its settings: 16 hexadecimal digits of a SHA-256. */
export async function taskFingerprint(settings: unknown): Promise<string> {
  const json = JSON.stringify(settings, (_, value) => typeof value === "bigint" ? `${value}` : value);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(json));
  return new Uint8Array(digest).toHex().slice(0, 16);
}

/**
 * Parses the record of a search. An incomplete last line is ignored.
 *
 * @param options.path name of the file, for error messages
 * @param options.task fingerprint of the search
 * @throws {SweepError} for a line of another search, or a file of something else
 */
export function parseDraws(
  bytes: Uint8Array,
  { path, task }: { path: string; task: string },
): { draws: LoggedDraw[]; completeBytes: number } {
  const refuse = (reason: string) => new SweepError(`Cannot go on with the search in ${path}: ${reason}`, { path });
  const completeBytes = bytes.lastIndexOf("\n".charCodeAt(0)) + 1;
  const lines = new TextDecoder().decode(bytes.subarray(0, completeBytes)).split("\n").slice(0, -1);
  const incomplete = new TextDecoder().decode(bytes.subarray(completeBytes));
  const beginning = `{"task":"${task}"`;
  if (!beginning.startsWith(incomplete) && !incomplete.startsWith(beginning)) {
    throw refuse("its last line does not come from this search");
  }
  const draws = lines.map((line, i) => {
    const draw = validateJson(drawSchema, line, (reason) => refuse(`line ${i + 1}: ${reason}`));
    if (draw.task === task) return draw;
    throw refuse(`line ${i + 1} belongs to another search; write to another file`);
  });
  return { draws, completeBytes };
}

/**
 * Gives recorded answers as long as they are to what is asked, and records others. A search is a
 * function of its answers, so it takes the same course again.
 */
export class DrawLog {
  readonly #left: LoggedDraw[];

  /**
   * Takes what is recorded.
   *
   * @param draws recorded answers, in their order
   * @param append records another answer
   */
  constructor(
    draws: readonly LoggedDraw[],
    readonly task: string,
    readonly append: (draw: LoggedDraw) => Promise<void>,
  ) {
    this.#left = [...draws];
  }

  /** A sampler of which the log knows the first answers. */
  resume(sample: ShareSampler): ShareSampler {
    return async (request: ShareRequest) => {
      const { weights = null, first, count } = request;
      const recorded = this.#left.shift();
      const isAnswer = recorded !== undefined && recorded.first === first &&
        JSON.stringify(recorded.weights) === JSON.stringify(weights) &&
        recorded.counts.reduce((sum, each) => sum + each, 0) === count;
      if (isAnswer) return recorded.counts;
      this.#left.length = 0;
      const counts = await sample(request);
      await this.append({ task: this.task, weights, first, counts });
      return counts;
    };
  }
}
