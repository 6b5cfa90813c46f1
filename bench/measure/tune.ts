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
import { matmul, splitsFor } from "../../kernels/gemm/matmul.ts";
import type { TileShape } from "../../kernels/gemm/tile.ts";
import { unsupportedReason } from "../../kernels/gemm/tile_support.ts";
import { policyOf } from "../../kernels/policy.ts";
import { tileKind } from "../../kernels/policy/tile_defaults.ts";
import { type AdapterTuning, productKey, type TileKind, tileKinds, type TunedProduct } from "../../kernels/tuning.ts";
import { testValues } from "../cases/task.ts";
import { deviceWork, timeInTurns, type TimingOptions } from "./timing.ts";

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

/**
 * A candidate replaces the present choice only if its time is below this fraction of the present
 * one. A different tile means kernels to compile anew.
 */
const replacementThreshold = 0.95;

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

/** A product [m, n, k]. B is stored [n, k]. */
export type ProductSizes = readonly [m: number, n: number, k: number];

/** The result for one product; fields as in {@linkcode TunedKind}. */
export interface TunedShape {
  readonly sizes: ProductSizes;
  readonly best: TunedProduct;
  readonly beforeMs: number;
  readonly bestMs: number;
  readonly tried: number;
}

/** The least k of a part of a split product that is measured, and the most parts. */
const leastPart = 128, mostParts = 8;

/** The tiles of a product's kind, each with every split of k that it allows. */
export function productCandidates(gpu: Gpu, [m, n, k]: ProductSizes): TunedProduct[] {
  const splits = policyOf(gpu).isSoftware ? [1] : [1, 2, 4, mostParts];
  return candidates(gpu, tileKind(m, n)).flatMap((tile) =>
    splits.filter((parts) => parts === 1 || k % (16 * parts) === 0 && k / parts >= leastPart)
      .map((parts) => ({ ...tile, splits: parts }))
  );
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

/** What the UNet allows of its products and attention, for which tuning is meant. */
const roundedToF16 = { allowF16Operands: true } as const;

/** The attention forms to measure for a head width. */
export function attentionCandidates(gpu: Gpu, width: number): AttentionForm[] {
  const lanes = gpu.info.subgroupSize, half = gpu.info.arithmetic === "f16";
  const forms: AttentionForm[] = [{ path: "staged" }];
  if (policyOf(gpu).isSoftware) {
    // The unrolled code grows with queries · keys · width; longer code takes seconds to compile.
    for (const queries of [1, 2, 3, 4, 6]) {
      for (const keys of [4, 8]) {
        if (queries * keys * width <= 2048) forms.push({ path: "subgroup", lanes, queries, keys, unrollK: 4 });
      }
    }
  } else {
    const layouts = [[8, 8], [8, 16], [8, 32], [10, 32], [16, 8], [16, 16], [4, 32]];
    for (const [threadsX, threadsY] of layouts) {
      for (const [rows, keys] of [[2, 1], [4, 1], [4, 2], [8, 1]]) {
        for (const depth of [4, 5, 8, 10]) forms.push({ path: "workgroup", threadsX, threadsY, rows, keys, depth });
      }
    }
  }
  // Software devices emulate matrices, and compile this form for up to a minute.
  if (gpu.info.subgroupMatrix && !policyOf(gpu).isSoftware) {
    for (const subgroups of [2, 4, 8]) {
      for (const rows of [1, 2]) {
        for (const keys of [32, 64]) forms.push({ path: "matrix", subgroups, rows, keys });
      }
    }
  }
  return forms.filter((form) => unsupportedAttentionReason(gpu.info, width, form, { half }) === undefined);
}

/** The tiles to measure for a kind of product. */
export function candidates(gpu: Gpu, kind: TileKind): TileShape[] {
  const { subgroupSize: lanes, subgroupMatrix, arithmetic } = gpu.info;
  const { isSoftware } = policyOf(gpu);
  const shapes: TileShape[] = [];
  if (isSoftware && lanes > 0) {
    for (const rows of kind === "row" ? [8] : [16, 32, 64]) {
      for (const columns of [1, 2, 4]) {
        if (rows * columns <= 128) shapes.push({ strategy: "subgroup", lanes, threadsX: lanes, rows, columns });
      }
    }
  } else {
    for (const [threadsX, threadsY] of [[8, 8], [16, 8], [16, 16], [32, 8]]) {
      for (const rows of kind === "row" ? [1] : kind === "skinny" ? [1, 2, 4, 8] : [4, 8]) {
        for (const columns of [1, 2]) {
          shapes.push({ strategy: "workgroup", lanes: threadsX * threadsY, threadsX, rows, columns });
        }
      }
    }
  }
  if (arithmetic === "f16") {
    // Software devices only emulate f16, and compile unrolled code slowly.
    for (const [threadsX, threadsY] of isSoftware ? [[8, 8]] : [[8, 8], [16, 8], [16, 16], [32, 8]]) {
      for (const rows of kind === "row" ? [1] : isSoftware ? [4] : kind === "skinny" ? [1, 2, 4, 8] : [4, 8]) {
        for (const columns of isSoftware ? [1] : [1, 2]) {
          shapes.push({ strategy: "half", lanes: threadsX * threadsY, threadsX, rows, columns });
        }
      }
    }
  }
  if (subgroupMatrix && (kind === "few" || kind === "many")) {
    for (const [subgroups, threadsX] of [[4, 2], [8, 4], [8, 2]]) {
      for (const [rows, columns] of [[1, 2], [2, 2], [2, 4], [4, 2], [4, 4]]) {
        shapes.push({ strategy: "matrix", lanes: subgroups * subgroupMatrix.lanes, threadsX, rows, columns });
      }
    }
  }
  return shapes.filter((shape) => unsupportedReason(gpu.info, shape) === undefined);
}

/**
 * Measures all candidates for every kind of product, every product of `shapes` and every head
 * width. Calls `onKind`, `onProduct` and `onAttention` with each result.
 */
export async function tune(
  gpu: Gpu,
  { waitMs, budgetMs, shapes = [], onKind, onProduct, onAttention }: TimingOptions & {
    waitMs: number;
    /** Products that get an entry each. Default: none. */
    shapes?: readonly ProductSizes[];
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
  for (const sizes of shapes) {
    const [m, n, k] = sizes;
    using a = Tensor.from(gpu, testValues(m * k, 1), [m, k]);
    using b = Tensor.from(gpu, testValues(n * k, 2), [n, k], "f16");
    const tile = tiles[tileKind(m, n)] ?? policyOf(gpu).products.tileFor(m, n, roundedToF16);
    const before = { ...tile, splits: splitsFor(gpu, m, n, k, { tile }) };
    const run = ({ splits, ...tile }: TunedProduct) => [() => void matmul(a, b, { transposeB: true, tile, splits })];
    const found = await fastest(gpu, [before, ...productCandidates(gpu, sizes)], run, { waitMs, budgetMs });
    tunedProducts[productKey(m, n, k)] = found.best;
    onProduct?.({ sizes, ...found });
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
  return { ...tiles, ...(shapes.length > 0 ? { products: tunedProducts } : {}), attention };
}

/**
 * Measures candidates in turns and returns the one with the smallest sum of minimum times. Returns
 * the first candidate, the present choice, unless another falls below {@linkcode
 * replacementThreshold}.
 */
async function fastest<Shape>(
  gpu: Gpu,
  candidates: readonly Shape[],
  run: (shape: Shape) => (() => void)[],
  { waitMs, budgetMs }: TimingOptions & { waitMs: number },
): Promise<{ best: Shape; beforeMs: number; bestMs: number; tried: number }> {
  const keyOf = (shape: Shape) => JSON.stringify(Object.entries(shape as object).sort());
  const keys = candidates.map(keyOf);
  const shapes = candidates.filter((_, index) => keys.indexOf(keys[index]) === index);
  const works = shapes.map(run);
  const total = shapes.map(() => 0);
  for (const part of works[0].keys()) {
    const timings = await timeInTurns(works.map((parts) => deviceWork(gpu, parts[part], { waitMs })), { budgetMs });
    timings.forEach(({ minMs }, i) => total[i] += minMs);
  }
  const least = total.indexOf(Math.min(...total));
  const chosen = total[least] < replacementThreshold * total[0] ? least : 0;
  return { best: shapes[chosen], beforeMs: total[0], bestMs: total[chosen], tried: shapes.length };
}
