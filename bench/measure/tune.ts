/**
 * Finds the fastest register tile for each kind of product on this device, and the fastest
 * attention for each width of head: tile tables are filled by measurement, since one device's
 * ranking says nothing about another's.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { attention as attend } from "../../kernels/attention/attention.ts";
import { type AttentionForm, unsupportedAttentionReason } from "../../kernels/attention/form.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import type { TileShape } from "../../kernels/gemm/tile.ts";
import { policyOf, unsupportedReason } from "../../kernels/policy.ts";
import { type AdapterTuning, type TileKind, tileKinds } from "../../kernels/tuning.ts";
import { numbers } from "../cases/task.ts";
import { deviceWork, timeInTurns, type TimingOptions } from "./timing.ts";

/**
 * Products [m, n, k] of the UNet at 512² that stand for each kind, with weights as torch stores
 * them.
 */
const products: Readonly<Record<TileKind, readonly (readonly [number, number, number])[]>> = {
  row: [[2, 1280, 1280]],
  skinny: [[64, 1280, 1280]],
  few: [[154, 640, 768], [256, 1280, 1280]],
  many: [[1024, 640, 2560], [4096, 320, 320]],
};

/**
 * Code twice as long must earn its compilation: another tile has to be this much faster than the
 * one in use.
 */
const worthwhile = 0.95;

/** What was measured for one kind of product. */
export interface TunedKind {
  readonly kind: TileKind;
  readonly best: TileShape;
  /** Time of the tile in use before, and of the best, over all products of the kind. */
  readonly beforeMs: number;
  readonly bestMs: number;
  /** How many tiles were tried. */
  readonly tried: number;
}

/**
 * Self-attention of Stable Diffusion at 512² [queries and keys, heads], by the width of its heads:
 * 1.x's, and 2.x's 64.
 */
const attentions: Readonly<Record<number, readonly [t: number, heads: number]>> = {
  40: [4096, 8],
  64: [1024, 10],
  80: [1024, 8],
  160: [256, 8],
};

/** What was measured for heads of one width. */
export interface TunedAttention {
  readonly width: number;
  readonly best: AttentionForm;
  readonly beforeMs: number;
  readonly bestMs: number;
  readonly tried: number;
}

/** The forms that can be tried for heads of a width. */
export function attentionCandidates(gpu: Gpu, width: number): AttentionForm[] {
  const { subgroupSize: lanes, deviceClass } = gpu.info;
  const forms: AttentionForm[] = [{ path: "staged" }];
  if (deviceClass === "software") {
    // the code grows with their numbers: beyond this it takes seconds to compile
    for (const queries of [1, 2, 3, 4, 6]) {
      for (const keys of [4, 8]) {
        if (queries * keys * width <= 2048) forms.push({ path: "subgroup", lanes, queries, keys, unrollK: 4 });
      }
    }
  } else {
    for (const threadsX of [8, 10, 16]) {
      for (const threadsY of [4, 8, 16]) {
        for (const rows of [1, 2, 4]) forms.push({ path: "workgroup", threadsX, threadsY, rows });
      }
    }
  }
  return forms.filter((form) => unsupportedAttentionReason(gpu.info, width, form) === undefined);
}

/** The tiles that can be tried for a kind on a device. */
export function candidates(gpu: Gpu, kind: TileKind): TileShape[] {
  const { subgroupSize: lanes, deviceClass, subgroupMatrix } = gpu.info;
  const shapes: TileShape[] = [];
  if (deviceClass === "software" && lanes > 0) {
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
 * Measures every candidate for every kind of product and width of head; tells of each when it is
 * done.
 */
export async function tune(
  gpu: Gpu,
  { waitMs, budgetMs, onKind, onAttention }: TimingOptions & {
    waitMs: number;
    onKind: (kind: TunedKind) => void;
    onAttention: (attention: TunedAttention) => void;
  },
): Promise<AdapterTuning> {
  const tiles: Partial<Record<TileKind, TileShape>> = {};
  for (const kind of tileKinds) {
    const before = policyOf(gpu).tiles({ allowF16Operands: true })[kind];
    const operands = products[kind].map(([m, n, k]) => ({
      a: Tensor.from(gpu, numbers(m * k, 1), [m, k]),
      b: Tensor.from(gpu, numbers(n * k, 2), [n, k], "f16"),
    }));
    const run = (tile: TileShape) => operands.map(({ a, b }) => () => void matmul(a, b, { transposeB: true, tile }));
    const found = await fastest(gpu, [before, ...candidates(gpu, kind)], run, { waitMs, budgetMs });
    for (const { a, b } of operands) for (const each of [a, b]) each[Symbol.dispose]();
    tiles[kind] = found.best;
    onKind({ kind, ...found });
  }
  const attention: Record<string, AttentionForm> = {};
  for (const [width, [t, heads]] of Object.entries(attentions)) {
    const dim = Number(width), shape = [1, t, heads * dim];
    const [q, k, v] = [1, 2, 3].map((seed) => Tensor.from(gpu, numbers(t * heads * dim, seed), shape));
    const sizes = { batch: 1, heads, t, s: t, dim, causal: false, scale: 1 };
    const forms = [policyOf(gpu).attentionFor(sizes), ...attentionCandidates(gpu, dim)];
    const run = (form: AttentionForm) => [() => void attend(q, k, v, { heads, form })];
    const found = await fastest(gpu, forms, run, { waitMs, budgetMs });
    for (const each of [q, k, v]) each[Symbol.dispose]();
    attention[width] = found.best;
    onAttention({ width: dim, ...found });
  }
  return { ...tiles, attention };
}

/**
 * The fastest of some shapes, by the sum of the least times of what each runs; the first, unless
 * another is worth its compiling.
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
  const chosen = total[least] < worthwhile * total[0] ? least : 0;
  return { best: shapes[chosen], beforeMs: total[0], bestMs: total[chosen], tried: shapes.length };
}
