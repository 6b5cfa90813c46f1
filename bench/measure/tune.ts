/**
 * Finds this device's fastest tile for each kind of product, and its fastest attention form for
 * each head width. The ranking differs between devices, so it has to be measured on each.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { attention as attend } from "../../kernels/attention/attention.ts";
import type { AttentionForm } from "../../kernels/attention/form.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import type { TileShape } from "../../kernels/gemm/tile.ts";
import { policyOf } from "../../kernels/policy.ts";
import { type AdapterTuning, type TileKind, tileKinds, type TunedProduct } from "../../kernels/tuning.ts";
import { testValues } from "../cases/task.ts";
import { type TunedOperation, type TunedShape, tuneOperation } from "./tune_operation.ts";
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
 * Self-attention of Stable Diffusion at 512² by head width: [number of queries and keys, heads].
 * Width 64 is that of SD 2.x, the others are those of SD 1.x.
 */
const attentions: Readonly<Record<number, readonly [t: number, heads: number]>> = {
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

/**
 * Measures all candidates for every kind of product, every one of `operations` and every head
 * width. Calls `onKind`, `onProduct` and `onAttention` with each result.
 */
export async function tune(
  gpu: Gpu,
  { waitMs, budgetMs, operations = [], onKind, onProduct, onAttention }: SearchOptions & {
    /** Products and convolutions that get an entry each where a tile is faster. Default: none. */
    operations?: readonly TunedOperation[];
    onKind: (kind: TunedKind) => void;
    onProduct?: (product: TunedShape) => void;
    onAttention: (attention: TunedAttention) => void;
  },
): Promise<AdapterTuning> {
  const tiles: Partial<Record<TileKind, TileShape>> = {};
  for (const kind of tileKinds) {
    const before = policyOf(gpu).products.tiles(roundedToF16)[kind];
    const operands = products[kind].map(([m, n, k]) => ({
      a: Tensor.from(gpu, testValues(m * k, 1), [m, k]),
      b: Tensor.from(gpu, testValues(n * k, 2), [n, k], "f16"),
    }));
    const run = (tile: TileShape) => operands.map(({ a, b }) => () => void matmul(a, b, { transposeB: true, tile }));
    const found = await fastest(gpu, [before, ...candidates(gpu, kind)], run, { waitMs, budgetMs });
    for (const { a, b } of operands) for (const each of [a, b]) each[Symbol.dispose]();
    tiles[kind] = found.best;
    onKind({ kind, ...found });
  }
  const tunedProducts: Record<string, TunedProduct> = {};
  for (const operation of operations) {
    const found = await tuneOperation(gpu, operation, { tiles, waitMs, budgetMs });
    if (found.best) tunedProducts[found.key] = found.best;
    onProduct?.(found);
  }
  const attention: Record<string, AttentionForm> = {};
  for (const [width, [t, heads]] of Object.entries(attentions)) {
    const dim = Number(width), shape = [1, t, heads * dim];
    const [q, k, v] = [1, 2, 3].map((seed) => Tensor.from(gpu, testValues(t * heads * dim, seed), shape));
    const sizes = { batch: 1, heads, t, s: t, dim, causal: false, scale: 1 };
    const forms = [policyOf(gpu).attention.formFor(sizes, roundedToF16), ...attentionCandidates(gpu, dim)];
    const run = (form: AttentionForm) => [() => void attend(q, k, v, { heads, form, ...roundedToF16 })];
    const found = await fastest(gpu, forms, run, { waitMs, budgetMs });
    for (const each of [q, k, v]) each[Symbol.dispose]();
    attention[width] = found.best;
    onAttention({ width: dim, ...found });
  }
  return { ...tiles, ...(operations.length > 0 ? { products: tunedProducts } : {}), attention };
}
