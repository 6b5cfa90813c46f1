/**
 * What the tuner tries for a product or an attention, and how it finds the fastest.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { type AttentionForm, unsupportedAttentionReason } from "../../kernels/attention/form.ts";
import type { TileShape } from "../../kernels/gemm/tile.ts";
import { stationaryDepths } from "../../kernels/gemm/tile_stationary.ts";
import { unsupportedReason } from "../../kernels/gemm/tile_support.ts";
import { policyOf } from "../../kernels/policy.ts";
import { tileKind } from "../../kernels/policy/tile_defaults.ts";
import type { TileKind, TunedProduct } from "../../kernels/tuning.ts";
import { type DeviceTiming, deviceWork, timeInTurns, type TimingOptions } from "./timing.ts";

/**
 * A candidate replaces the present choice only if its time is below this fraction of the present
 * one. A different tile means kernels to compile anew.
 */
const replacementThreshold = 0.95;

/** The least k of a part of a split product that is measured, and the most parts. */
const leastPart = 128, mostParts = 8;

/** The tiles of a kind of product, each with every depth of blocks and split of k that k allows. */
export function productCandidates(gpu: Gpu, m: number, n: number, k: number): TunedProduct[] {
  const splits = policyOf(gpu).isSoftware ? [1] : [1, 2, 4, mostParts];
  const depths = (tile: TileShape): TileShape[] => {
    const { least, middle, most } = stationaryDepths(tile.lanes);
    return tile.strategy === "stationary" && k > least
      ? [least, middle, most].map((depth) => ({ ...tile, depth }))
      : [tile];
  };
  return candidates(gpu, tileKind(m, n))
    .flatMap(depths)
    .flatMap((tile) =>
      splits.filter((parts) => parts === 1 || k % (16 * parts) === 0 && k / parts >= leastPart)
        .map((parts) => ({ ...tile, splits: parts }))
    );
}

/** What the UNet allows of its products and attention, for which tuning is meant. */
export const roundedToF16 = { allowF16Operands: true } as const;

/** The attention forms to measure for a head width. */
export function attentionCandidates(gpu: Gpu, width: number): AttentionForm[] {
  const lanes = gpu.info.subgroupSize, half = gpu.info.arithmetic === "f16";
  const forms: AttentionForm[] = [{ path: "staged" }];
  if (policyOf(gpu).isSoftware) {
    // The unrolled code grows with queries · keys · width; longer code takes seconds to compile.
    for (const queries of [1, 2, 3, 4, 6]) {
      for (const keys of queries === 3 ? [2, 4, 8] : [4, 8]) {
        const unrollK = Math.min(keys, 4);
        if (queries * keys * width <= 2048) forms.push({ path: "subgroup", lanes, queries, keys, unrollK });
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
    for (const rows of [64, 128, 256, 512]) {
      shapes.push({ strategy: "stationary", lanes, threadsX: lanes, rows, columns: 2 });
    }
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
      for (const rows of kind === "row" ? [1] : isSoftware ? [4] : kind === "skinny" ? [1, 2, 4, 8] : [4, 6, 8]) {
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

/** How long to measure. */
export interface SearchOptions extends TimingOptions, DeviceTiming {}

/**
 * Measures candidates in turns and returns the one with the smallest sum of minimum times. Returns
 * the first candidate, the present choice, unless another falls below {@linkcode
 * replacementThreshold}. That one is measured beside the present choice once more: of many
 * candidates on a busy machine, one looks fast by chance.
 */
export async function fastest<Shape>(
  gpu: Gpu,
  candidates: readonly Shape[],
  run: (shape: Shape) => (() => void)[],
  options: SearchOptions,
): Promise<{ best: Shape; beforeMs: number; bestMs: number; tried: number }> {
  const keyOf = (shape: Shape) => JSON.stringify(Object.entries(shape as object).sort());
  const keys = candidates.map(keyOf);
  const shapes = candidates.filter((_, index) => keys.indexOf(keys[index]) === index);
  const measure = async (some: readonly Shape[]) => {
    const works = some.map(run);
    const totals = some.map(() => 0);
    for (const part of works[0].keys()) {
      const timings = await timeInTurns(works.map((parts) => deviceWork(gpu, parts[part], options)), options);
      timings.forEach(({ minMs }, i) => totals[i] += minMs);
    }
    return totals;
  };
  const totals = await measure(shapes);
  const least = totals.indexOf(Math.min(...totals));
  let [beforeMs, bestMs] = [totals[0], totals[least]];
  const isFaster = () => bestMs < replacementThreshold * beforeMs;
  if (isFaster()) {
    const again = await measure([shapes[0], shapes[least]]);
    [beforeMs, bestMs] = [Math.min(beforeMs, again[0]), Math.min(bestMs, again[1])];
  }
  const best = isFaster() ? { best: shapes[least], bestMs } : { best: shapes[0], bestMs: beforeMs };
  return { ...best, beforeMs, tried: shapes.length };
}
