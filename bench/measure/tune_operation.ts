/**
 * Finds the fastest tile of a single product, gated product or convolution, and which of these a
 * model's step consists of.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { conv2d, packConvWeight } from "../../kernels/conv/conv2d.ts";
import { gatedProduct } from "../../kernels/gemm/gated_product.ts";
import { matmul, splitsFor } from "../../kernels/gemm/matmul.ts";
import { canGate, type TileShape } from "../../kernels/gemm/tile.ts";
import { policyFor, tuningName } from "../../kernels/policy.ts";
import { tileKind } from "../../kernels/policy/tile_defaults.ts";
import { productKey, type Tiles, type TunedProduct } from "../../kernels/tuning.ts";
import type { Shapes } from "../cases/model_shapes.ts";
import { type Conv2dTask, testValues } from "../cases/task.ts";
import { type CountedConfig, countTasks, type StepSizes } from "../cases/unet_shapes.ts";
import { candidates, fastest, productCandidates, roundedToF16, type SearchOptions } from "./tune_search.ts";

/**
 * An operation with a tile of its own: a product with B stored [n, k], a gated product to m × n,
 * or a convolution.
 */
export type TunedOperation =
  | { readonly op: "product" | "gated product"; readonly m: number; readonly n: number; readonly k: number }
  | Conv2dTask;

/** The result for one operation. */
export interface TunedShape {
  /** Its name in the tuning. */
  readonly key: string;
  /** The tile that is faster than the present choice; absent where none is. */
  readonly best?: TunedProduct;
  /** Time of the present choice. */
  readonly beforeMs: number;
  readonly bestMs: number;
  /** Number of candidates measured. */
  readonly tried: number;
}

/** The name of an operation in a tuning; see {@linkcode productKey}. */
export function operationKey(operation: TunedOperation): string {
  if (operation.op !== "conv2d") {
    const { op, m, n, k } = operation;
    return productKey(m, n, k, op === "product" ? "plain" : "gated");
  }
  const { kernel, stride } = operation, { m, n, k } = productOf(operation);
  return productKey(m, n, k, { kernel: [kernel, kernel], stride });
}

/** The sizes of a convolution as a product: channels, pixels and elements of a patch. */
function productOf({ inChannels, outChannels, side, kernel, stride }: Conv2dTask): Sizes {
  const outSide = Math.floor((side + 2 * (kernel >> 1) - kernel) / stride) + 1;
  return { m: outChannels, n: outSide ** 2, k: kernel ** 2 * 4 * Math.ceil(inChannels / 4) };
}

/** The number of an operation's candidates beside the present choice. */
export function operationCandidates(gpu: Gpu, operation: TunedOperation): number {
  if (operation.op === "conv2d") {
    const { m, n } = productOf(operation);
    return candidates(gpu, tileKind(m, n)).length;
  }
  const { op, m, n, k } = operation;
  if (op === "product") return productCandidates(gpu, m, n, k).length;
  return (gatedTiles(gpu, m, n) ?? productCandidates(gpu, m, 2 * n, k)).length;
}

/** Measures an operation's candidates. `tiles` are those of its kind, where they were tuned. */
export function tuneOperation(
  gpu: Gpu,
  operation: TunedOperation,
  options: SearchOptions & { readonly tiles: Tiles },
): Promise<TunedShape> {
  if (operation.op === "conv2d") return tuneConvolution(gpu, operation, options);
  return operation.op === "product" ? tuneProduct(gpu, operation, options) : tuneGated(gpu, operation, options);
}

type Sizes = { readonly m: number; readonly n: number; readonly k: number };

async function tuneProduct(
  gpu: Gpu,
  { m, n, k }: Sizes,
  { tiles, ...options }: SearchOptions & { readonly tiles: Tiles },
): Promise<TunedShape> {
  using a = Tensor.from(gpu, testValues(m * k, 1), [m, k]);
  using b = Tensor.from(gpu, testValues(n * k, 2), [n, k], "f16");
  const { info } = gpu, tuned = policyFor({ info, options: { tuning: { [tuningName(info)]: tiles } } });
  const tile = tuned.products.tileFor(m, n, { k, ...roundedToF16, isVec8: n % 8 === 0 && k % 8 === 0 });
  const before = { ...tile, splits: splitsFor(gpu, m, n, k, { tile }) };
  const run = ({ splits, ...tile }: TunedProduct) => [() => void matmul(a, b, { transposeB: true, tile, splits })];
  const found = await fastest(gpu, [before, ...productCandidates(gpu, m, n, k)], run, options);
  return { key: productKey(m, n, k), ...found };
}

/** The tiles of a gated product to m × n; undefined where the device gates in a pass of its own. */
function gatedTiles(gpu: Gpu, m: number, n: number): TileShape[] | undefined {
  const tiles = candidates(gpu, tileKind(m, n)).filter(canGate);
  return tiles.length === 0 || n % 4 !== 0 ? undefined : tiles;
}

/**
 * A gated product, on tiles that can gate. Where the device gates in a pass of its own,
 * as software devices do, its product has an entry.
 */
async function tuneGated(
  gpu: Gpu,
  { m, n, k }: Sizes,
  options: SearchOptions & { readonly tiles: Tiles },
): Promise<TunedShape> {
  const tiles = gatedTiles(gpu, m, n);
  if (tiles === undefined) return await tuneProduct(gpu, { m, n: 2 * n, k }, options);
  using x = Tensor.from(gpu, testValues(m * k, 1), [m, k]);
  using weight = Tensor.from(gpu, testValues(2 * n * k, 2), [2 * n, k], "f16");
  const run = ({ tile }: Choice) => [() => void gatedProduct(x, weight, { tile, ...roundedToF16 })];
  return whereFaster(operationKey({ op: "gated product", m, n, k }), await fastest(gpu, choices(tiles), run, options));
}

/** A convolution of whole images, on tiles of the general kernel. */
async function tuneConvolution(gpu: Gpu, task: Conv2dTask, options: SearchOptions): Promise<TunedShape> {
  const { batch, inChannels, outChannels, side, kernel, stride } = task;
  const padding = kernel >> 1, { m, n } = productOf(task);
  using x = Tensor.from(gpu, testValues(batch * inChannels * side ** 2, 1), [batch, inChannels, side, side]);
  const weights = [outChannels, inChannels, kernel, kernel];
  using raw = Tensor.from(gpu, testValues(weights.reduce((a, b) => a * b), 2), weights, "f16");
  const weight = packConvWeight(raw);
  using _weight = weight.tensor;
  const run = ({ tile }: Choice) => [() => void conv2d(x, weight, { stride, padding, tile, ...roundedToF16 })];
  const found = await fastest(gpu, choices(candidates(gpu, tileKind(m, n))), run, options);
  return whereFaster(operationKey(task), found);
}

/** A tile, or the present choice, which need not be one. */
interface Choice {
  readonly tile?: TileShape;
}

const choices = (tiles: readonly TileShape[]): Choice[] => [{}, ...tiles.map((tile) => ({ tile }))];

function whereFaster(
  key: string,
  { best: { tile }, ...found }: { readonly best: Choice } & Omit<TunedShape, "key" | "best">,
): TunedShape {
  return { key, ...(tile ? { best: { ...tile, splits: 1 } } : {}), ...found };
}

/** Self-attentions by head width: the number of queries, which is that of keys, and of heads. */
export type TunedHeads = Readonly<Record<number, readonly [t: number, heads: number]>>;

/** What a model's step consists of. */
export interface TunedModel {
  readonly operations: readonly TunedOperation[];
  readonly heads: TunedHeads;
}

/** The operations and self-attentions of a UNet's step; see {@linkcode countTasks}. */
export function tunedModel(shapes: Shapes, config: CountedConfig, sizes: StepSizes): TunedModel {
  const isGated = (name: string) => /\.ff\.net\.0\.proj\./.test(name);
  const tasksOf = (gated: boolean) =>
    countTasks(new Map([...shapes].filter(([name]) => isGated(name) === gated)), config, sizes).map(({ task }) => task);
  const plain = tasksOf(false).flatMap((task): TunedOperation[] =>
    task.op === "matmul" ? [{ op: "product", m: task.m, n: task.n, k: task.k }] : task.op === "conv2d" ? [task] : []
  );
  const gated = tasksOf(true).flatMap((task): TunedOperation[] =>
    task.op === "matmul" ? [{ op: "gated product", m: task.m, n: task.n / 2, k: task.k }] : []
  );
  const heads: Record<number, readonly [number, number]> = {};
  for (const { task } of countTasks(shapes, config, sizes)) {
    // The largest of a width decides, as it takes the most time.
    if (task.op === "attention" && task.t === task.s && task.t > (heads[task.dim]?.[0] ?? 0)) {
      heads[task.dim] = [task.t, task.heads];
    }
  }
  return { operations: [...plain, ...gated], heads };
}
