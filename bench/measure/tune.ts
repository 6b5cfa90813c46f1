/**
 * Finds this device's fastest tile for each kind of product, and its fastest attention form for
 * each head width. The ranking differs between devices, so it has to be measured on each.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { attention as attend } from "../../kernels/attention/attention.ts";
import { type AttentionForm, unsupportedAttentionReason } from "../../kernels/attention/form.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import type { TileShape } from "../../kernels/gemm/tile.ts";
import { unsupportedReason } from "../../kernels/gemm/tile_support.ts";
import { policyOf } from "../../kernels/policy.ts";
import { type AdapterTuning, type TileKind, tileKinds } from "../../kernels/tuning.ts";
import { testValues } from "../cases/task.ts";
import {
  operationCandidates,
  operationKey,
  type TunedHeads,
  type TunedModel,
  type TunedShape,
  tuneOperation,
} from "./tune_operation.ts";
import { attentionCandidates, candidates, fastest, roundedToF16, type SearchOptions } from "./tune_search.ts";

/**
 * Products [m, n, k] of the UNet at 512² that represent each kind. B is stored [n, k], as torch
 * stores weights.
 */
const products: Readonly<Record<TileKind, readonly (readonly [number, number, number])[]>> = {
  row: [[2, 1280, 1280]],
  skinny: [[64, 1280, 1280]],
  few: [[154, 640, 768], [256, 1280, 1280]],
  many: [[1024, 640, 2560], [4096, 320, 320]],
};

/** The result for one kind of product. */
export interface TunedKind {
  readonly kind: TileKind;
  readonly best: TileShape;
  /** Time of the present tile, summed over the products of the kind. */
  readonly beforeMs: number;
  /** Time of the chosen tile. */
  readonly bestMs: number;
  /** Number of tiles measured. */
  readonly tried: number;
}

/**
 * Self-attention of Stable Diffusion at 512² by head width. Width 64 is that of SD 2.x, the others
 * are those of SD 1.x.
 */
const attentions: TunedHeads = {
  40: [4096, 8],
  64: [1024, 10],
  80: [1024, 8],
  160: [256, 8],
};

/** The result for one head width; fields as in {@linkcode TunedKind}. */
export interface TunedAttention {
  readonly width: number;
  readonly best: AttentionForm;
  readonly beforeMs: number;
  readonly bestMs: number;
  readonly tried: number;
}

/** The result of a step. */
export type Tuned = TunedKind | TunedShape | TunedAttention;

/** What a step's search found, and the tuning with it. */
interface StepResult {
  readonly tuned: Tuned;
  readonly tuning: AdapterTuning;
}

/** One choice of a tuning: all its candidates are measured together. */
export interface TuningStep {
  /** Unique: the kind, the operation's name, or "heads of 40". */
  readonly name: string;
  /**
   * How many timings the step takes: its candidates, the present choice included, times the works
   * that each is measured on. Timings of one budget take about as long.
   */
  timings(gpu: Gpu): number;
  /**
   * Whether a tuning holds the step's result. A product or convolution whose kind's tile is the
   * fastest has no entry, so any tuning of the adapter may hold its result.
   */
  isIn(tuning: AdapterTuning): boolean;
  /** Measures the candidates. Returns `tuning` with the fastest. */
  run(gpu: Gpu, tuning: AdapterTuning, options: SearchOptions): Promise<StepResult>;
}

/**
 * The steps of a tuning: every kind of product, every one of `operations`, every head width of
 * Stable Diffusion and of `heads`.
 *
 * @param operations products and convolutions that get an entry each where a tile is faster
 */
export function tuningSteps({ operations, heads }: TunedModel = { operations: [], heads: {} }): TuningStep[] {
  // Convolutions of 3 and of 4 channels have one name, and so one entry.
  const named = new Map(operations.map((operation) => [operationKey(operation), operation]));
  return [
    ...tileKinds.map(kindStep),
    ...[...named.values()].map(operationStep),
    ...Object.entries({ ...attentions, ...heads }).map(([width, sizes]) => attentionStep(Number(width), sizes)),
  ];
}

/** Options of {@linkcode tune}. */
export interface TuneOptions extends SearchOptions {
  readonly steps: readonly TuningStep[];
  /** The entries to begin with; those that the device cannot run are left out. Default: none. */
  readonly tuning?: AdapterTuning;
  /** Called after each step, with the tuning so far, and waited for. */
  readonly onStep: (step: TuningStep, result: StepResult) => Promise<void> | void;
}

/** Takes the steps of a tuning, one after the other. Entries that no step measures stay. */
export async function tune(gpu: Gpu, { steps, tuning = {}, onStep, ...search }: TuneOptions): Promise<AdapterTuning> {
  let result = runnable(gpu, tuning);
  for (const step of steps) {
    const found = await step.run(gpu, result, search);
    result = found.tuning;
    gpu.trim();
    await onStep(step, found);
  }
  return result;
}

/** The entries of a tuning that the device can run: an update of the driver can change that. */
export function runnable({ info }: Gpu, { attention = {}, products = {}, ...tiles }: AdapterTuning): AdapterTuning {
  const half = info.arithmetic === "f16";
  const where = <T>(entries: Readonly<Record<string, T>>, fits: (entry: T, name: string) => boolean) =>
    Object.fromEntries(Object.entries(entries).filter(([name, entry]) => fits(entry, name)));
  const canRun = (tile: TileShape) => unsupportedReason(info, tile) === undefined;
  const canAttend = (form: AttentionForm, width: string) =>
    unsupportedAttentionReason(info, Number(width), form, { half }) === undefined;
  return {
    ...where<TileShape>(tiles, canRun),
    products: where(products, ({ splits: _, ...tile }) => canRun(tile)),
    attention: where(attention, canAttend),
  };
}

function kindStep(kind: TileKind): TuningStep {
  return {
    name: kind,
    isIn: (tuning) => tuning[kind] !== undefined,
    timings: (gpu) => (1 + candidates(gpu, kind).length) * products[kind].length,
    async run(gpu, tuning, options) {
      const before = policyOf(gpu).products.tiles(roundedToF16)[kind];
      const operands = products[kind].map(([m, n, k]) => ({
        a: Tensor.from(gpu, testValues(m * k, 1), [m, k]),
        b: Tensor.from(gpu, testValues(n * k, 2), [n, k], "f16"),
      }));
      const run = (tile: TileShape) => operands.map(({ a, b }) => () => void matmul(a, b, { transposeB: true, tile }));
      const found = await fastest(gpu, [before, ...candidates(gpu, kind)], run, options);
      for (const { a, b } of operands) for (const each of [a, b]) each[Symbol.dispose]();
      return { tuned: { kind, ...found }, tuning: { ...tuning, [kind]: found.best } };
    },
  };
}

function operationStep(operation: TunedModel["operations"][number]): TuningStep {
  return {
    name: operationKey(operation),
    isIn: (tuning) => tileKinds.some((kind) => tuning[kind] !== undefined),
    timings: (gpu) => 1 + operationCandidates(gpu, operation),
    async run(gpu, tuning, options) {
      const { attention: _, products = {}, ...tiles } = tuning;
      const tuned = await tuneOperation(gpu, operation, { ...options, tiles });
      const { [tuned.key]: __, ...others } = products;
      return {
        tuned,
        tuning: { ...tuning, products: tuned.best ? { ...others, [tuned.key]: tuned.best } : others },
      };
    },
  };
}

function attentionStep(width: number, [t, heads]: TunedHeads[number]): TuningStep {
  return {
    name: `heads of ${width}`,
    isIn: ({ attention = {} }) => attention[width] !== undefined,
    timings: (gpu) => 1 + attentionCandidates(gpu, width).length,
    async run(gpu, tuning, options) {
      const shape = [1, t, heads * width];
      const [q, k, v] = [1, 2, 3].map((seed) => Tensor.from(gpu, testValues(t * heads * width, seed), shape));
      const sizes = { batch: 1, heads, t, s: t, dim: width, causal: false, scale: 1 };
      const forms = [policyOf(gpu).attention.formFor(sizes, roundedToF16), ...attentionCandidates(gpu, width)];
      const run = (form: AttentionForm) => [() => void attend(q, k, v, { heads, form, ...roundedToF16 })];
      const found = await fastest(gpu, forms, run, options);
      for (const each of [q, k, v]) each[Symbol.dispose]();
      const attention = { ...tuning.attention, [width]: found.best };
      return { tuned: { width, ...found }, tuning: { ...tuning, attention } };
    },
  };
}
