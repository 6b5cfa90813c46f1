/** The options that evaluations share, and what they accept. */

import { kind, kinds, type OptionTable, wholeFrom } from "../options.ts";

/** How pictures are drawn for an evaluation. */
export interface DrawingOptions {
  /** Denoising steps. Default: 20. */
  readonly steps?: number;
  /** Guidance scale of classifier-free guidance. Default: 5. */
  readonly guidance?: number;
  /** Pictures per batch; each picture has its own edit. Default: 16. */
  readonly batchSize?: number;
  /** Cancels the drawing. */
  readonly signal?: AbortSignal;
  /** Called after each batch with the number of pictures in it. */
  readonly onDrawn?: (count: number) => void;
}

/** How pictures of an evaluation are drawn. */
export const drawingTable: OptionTable<DrawingOptions> = {
  steps: wholeFrom(1),
  guidance: kinds.finite,
  batchSize: wholeFrom(1),
  signal: kinds.signal,
  onDrawn: kinds.callback,
};

/** The seed of a first picture. */
export const firstSeedKind = kind(
  "a seed (a whole number from 0 to 2^64 - 1, as a bigint beyond 2^53)",
  (value) => typeof value === "bigint" ? value >= 0n && value < 2n ** 64n : wholeFrom(0).accepts(value),
);

/** How many pictures each prompt gets, from which seed on. */
export const seedsTable = { seeds: wholeFrom(1), firstSeed: firstSeedKind };

/** λ of a grid. */
export const lambdasKind = kind(
  "a list of one or more finite numbers",
  (value) => Array.isArray(value) && value.length > 0 && value.every(Number.isFinite),
);

/** Those of an evaluation's options that {@linkcode drawPictures} takes. */
export function drawingOf(options: DrawingOptions): DrawingOptions {
  const { steps, guidance, batchSize, signal, onDrawn } = options;
  return { steps, guidance, batchSize, signal, onDrawn };
}
