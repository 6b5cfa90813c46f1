/**
 * Finds the fastest register tile for each kind of product on this device: tile tables are filled by measurement, since one device's ranking says
 * nothing about another's.
 *
 * @module
 */
import type { Gpu } from "../engine/gpu.ts";
import { Tensor } from "../engine/tensor.ts";
import { matmul } from "../kernels/matmul.ts";
import type { TileShape } from "../kernels/tile.ts";
import { refusal, type TileKind, tileKinds, type Tiles, tilesOf } from "../kernels/tile_table.ts";
import { numbers } from "./task.ts";
import { deviceWork, timeInTurns, type TimingOptions } from "./timing.ts";

/** Products [m, n, k] of the UNet at 512² that stand for each kind, with weights as torch stores them. */
const products: Readonly<Record<TileKind, readonly (readonly [number, number, number])[]>> = {
  row: [[2, 1280, 1280]],
  skinny: [[64, 1280, 1280]],
  few: [[154, 640, 768], [256, 1280, 1280]],
  many: [[1024, 640, 2560], [4096, 320, 320]],
};

/** Code twice as long must earn its compilation: another tile has to be this much faster than the one in use. */
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

/** The tiles that can be tried for a kind on a device. */
export function candidates(gpu: Gpu, kind: TileKind): TileShape[] {
  const { subgroupSize: lanes, deviceClass, subgroupMatrix } = gpu.info;
  const shapes: TileShape[] = [];
  if (deviceClass === "software" && lanes > 0) {
    for (const rows of kind === "row" ? [8] : [16, 32, 64]) {
      for (const columns of [1, 2, 4]) {
        if (rows * columns <= 128) shapes.push({ machine: "subgroup", lanes, threadsX: lanes, rows, columns });
      }
    }
  } else {
    for (const [threadsX, threadsY] of [[8, 8], [16, 8], [16, 16], [32, 8]]) {
      for (const rows of kind === "row" ? [1] : kind === "skinny" ? [1, 2, 4, 8] : [4, 8]) {
        for (const columns of [1, 2]) {
          shapes.push({ machine: "workgroup", lanes: threadsX * threadsY, threadsX, rows, columns });
        }
      }
    }
  }
  if (subgroupMatrix && (kind === "few" || kind === "many")) {
    for (const [subgroups, threadsX] of [[4, 2], [8, 4], [8, 2]]) {
      for (const [rows, columns] of [[1, 2], [2, 2], [2, 4], [4, 2], [4, 4]]) {
        shapes.push({ machine: "matrix", lanes: subgroups * subgroupMatrix.lanes, threadsX, rows, columns });
      }
    }
  }
  return shapes.filter((shape) => refusal(gpu, shape) === undefined);
}

/** Measures every candidate for every kind; tells of each kind when it is done. */
export async function tune(
  gpu: Gpu,
  { waitMs, budgetMs, onKind }: TimingOptions & { waitMs: number; onKind: (kind: TunedKind) => void },
): Promise<Tiles> {
  const tiles: Partial<Record<TileKind, TileShape>> = {};
  for (const kind of tileKinds) {
    const before = tilesOf(gpu, { mayRound: true })[kind];
    const isBefore = (shape: TileShape) => JSON.stringify(shape) === JSON.stringify(before);
    const shapes = [before, ...candidates(gpu, kind).filter((shape) => !isBefore(shape))];
    const total = shapes.map(() => 0);
    for (const [m, n, k] of products[kind]) {
      using a = Tensor.from(gpu, numbers(m * k, 1), [m, k]);
      using b = Tensor.from(gpu, numbers(n * k, 2), [n, k], "f16");
      const works = shapes.map((tile) =>
        deviceWork(gpu, () => void matmul(a, b, { transposeB: true, tile }), { waitMs })
      );
      (await timeInTurns(works, { budgetMs })).forEach(({ minMs }, i) => total[i] += minMs);
    }
    const fastest = total.indexOf(Math.min(...total));
    const chosen = total[fastest] < worthwhile * total[0] ? fastest : 0;
    tiles[kind] = shapes[chosen];
    onKind({ kind, best: shapes[chosen], beforeMs: total[0], bestMs: total[chosen], tried: shapes.length });
  }
  return tiles;
}
