/**
 * The search for the weights of several destinations by which pictures of a source show each of
 * them as often as wanted. It knows neither models nor pictures: a sampler draws and judges.
 *
 * @module
 */
import { OptionError } from "../../errors.ts";
import { checkOptions, kind, kinds, type OptionTable, wholeFrom } from "../../options.ts";
import { type Interval, wilsonInterval } from "../wilson.ts";

/** Pictures to draw and to judge. */
export interface ShareRequest {
  /** Weight α of each destination in g = c + Σ α (gⱼ − c); undefined draws the unedited model. */
  readonly weights: readonly number[] | undefined;
  /** How many pictures were asked for before: pictures of one number have the same seed. */
  readonly first: number;
  /** The number of pictures. */
  readonly count: number;
}

/** Draws pictures and returns how many of them fit each destination best. */
export type ShareSampler = (request: ShareRequest) => Promise<readonly number[]>;

/** How often pictures show a destination. */
export interface Share {
  /** Share of the pictures. */
  readonly share: number;
  /** Wilson's 95 % interval of the share. */
  readonly interval: Interval;
}

/** Pictures drawn with the same weights. */
export interface DebiasRound {
  /** The weights; undefined for the unedited model. */
  readonly weights: readonly number[] | undefined;
  /** The pictures that fit each destination best. */
  readonly counts: readonly number[];
}

/** The outcome of {@linkcode searchShares}. */
export interface DebiasResult {
  /** The weight of each destination. */
  readonly weights: readonly number[];
  /** Shares without the edit. */
  readonly before: readonly Share[];
  /** Shares with the edit, from pictures that the search did not see. */
  readonly after: readonly Share[];
  /** Whether each target lies within the interval of its share. */
  readonly reached: boolean;
  /** The search's rounds, in their order. */
  readonly rounds: readonly DebiasRound[];
  /** Number of pictures drawn, before, in the search and after. */
  readonly pictures: number;
}

/** Options of {@linkcode searchShares}. */
export interface ShareSearchOptions {
  /** Most pictures to draw. Default: 256. */
  readonly budget?: number;
  /** Pictures of each round. Default: 16. */
  readonly roundSize?: number;
  /** The search ends where no share of a round is further from its target. Default: 0.05. */
  readonly tolerance?: number;
  /** Called after each round. */
  readonly onRound?: (round: DebiasRound) => unknown;
}

/** What the options of a search accept. */
export const shareSearchTable: OptionTable<ShareSearchOptions> = {
  budget: wholeFrom(1),
  roundSize: wholeFrom(1),
  tolerance: kind("a number from 0", (value) => Number.isFinite(value) && (value as number) >= 0),
  onRound: kinds.callback,
};

/** Bounds of a weight: beyond, an edit leaves the states that the model knows. */
const largestWeight = 4;

/**
 * Searches for weights. A quarter of the budget measures the unedited model and another quarter the
 * result, with seeds of their own; the rest is searched in rounds. Each round moves a weight in
 * proportion to its share's error; where the error changes its sign, that weight's step is halved.
 * The weights keep their sum of 1. The round with the smallest largest error is taken.
 *
 * @param target wanted share of each destination; above 0, with the sum 1
 * @throws {OptionError} for unknown options and values of the wrong kind, and when
 *   there are fewer than two targets, they do not add up to 1, or the
 *   budget is less than four rounds
 */
export async function searchShares(
  sample: ShareSampler,
  target: readonly number[],
  options: ShareSearchOptions = {},
): Promise<DebiasResult> {
  checkOptions("search for shares", options, shareSearchTable);
  const { budget = 256, roundSize = 16, tolerance = 0.05, onRound } = options;
  checkTarget(target);
  if (!(budget >= 4 * roundSize)) {
    throw new OptionError(
      `Cannot search with a budget of ${budget} pictures in rounds of ${roundSize}: the budget must be at least four rounds`,
      { option: "budget", value: budget },
    );
  }
  let drawn = 0;
  const draw = async (weights: readonly number[] | undefined, count: number): Promise<DebiasRound> => {
    const round = { weights, counts: await sample({ weights, first: drawn, count }) };
    drawn += count;
    await onRound?.(round);
    return round;
  };
  const held = Math.floor(budget / 4);
  const before = await draw(undefined, held);
  const rounds: DebiasRound[] = [];
  let weights = [...target], steps = target.map(() => 0.5), signs = target.map(() => 0);
  while (drawn + roundSize + held <= budget) {
    const round = await draw(weights, roundSize);
    rounds.push(round);
    const errors = errorsOf(round, target);
    if (Math.max(...errors.map(Math.abs)) <= tolerance) break;
    steps = steps.map((step, j) => signs[j] * errors[j] < 0 ? step / 2 : step);
    signs = errors.map((error, j) => Math.sign(error) || signs[j]);
    weights = moved(weights, errors.map((error, j) => steps[j] * error * 2));
  }
  const error = (round: DebiasRound) => Math.max(...errorsOf(round, target).map(Math.abs));
  const best = rounds.reduce((least, round) => error(round) < error(least) ? round : least);
  const after = sharesOf(await draw(best.weights, held));
  return {
    weights: best.weights!,
    before: sharesOf(before),
    after,
    reached: after.every(({ interval: { low, high } }, j) => low <= target[j] && target[j] <= high),
    rounds,
    pictures: drawn,
  };
}

function checkTarget(target: readonly number[]): void {
  const sum = target.reduce((sum, share) => sum + share, 0);
  if (
    target.length >= 2 && target.every(kinds.finite.accepts) && target.every((share) => share > 0) &&
    Math.abs(sum - 1) <= 1e-6
  ) return;
  throw new OptionError(
    `Cannot search for the shares ${target.join(", ")}: there must be two or more, above 0, and their sum must be 1`,
    { option: "target", value: target },
  );
}

/** Each destination's share, with its interval. */
export function sharesOf({ counts }: Pick<DebiasRound, "counts">): Share[] {
  const all = counts.reduce((sum, count) => sum + count, 0);
  return counts.map((count) => ({ share: count / all, interval: wilsonInterval(count, all) }));
}

function errorsOf(round: DebiasRound, target: readonly number[]): number[] {
  return sharesOf(round).map(({ share }, j) => target[j] - share);
}

/** Moved weights, within bounds, with the sum 1. */
function moved(weights: readonly number[], moves: readonly number[]): number[] {
  const bounded = weights.map((weight, j) => Math.min(largestWeight, Math.max(-largestWeight, weight + moves[j])));
  const excess = (bounded.reduce((sum, weight) => sum + weight, 0) - 1) / weights.length;
  return bounded.map((weight) => weight - excess);
}
