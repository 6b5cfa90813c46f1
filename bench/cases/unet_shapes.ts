/**
 * Counts the matrix products, convolutions and attentions of one UNet step, by size.
 *
 *     deno run --allow-read bench/cases/unet_shapes.ts [unet/config.json]
 *
 * prints the table below.
 *
 * @module
 */
import { type Shapes, unetShapes } from "./model_shapes.ts";
import { configs } from "./sd14.ts";
import { configs as sdxlConfigs } from "./sdxl.ts";
import { type PeerTask, taskFlops } from "./task.ts";

/** A task and its number of occurrences per step. */
export interface CountedTask {
  readonly task: PeerTask;
  readonly perStep: number;
}

/** The sizes of a step. */
export interface StepSizes {
  /** Side of the latents. */
  readonly side: number;
  /** Batch size: two for one guided picture. */
  readonly batch: number;
  /** Tokens of the context. */
  readonly tokens: number;
}

/** The fields of a UNet's `config.json` that counting needs. */
export interface CountedConfig {
  readonly block_out_channels: readonly number[];
  /** Number of heads, or one number per level. The misleading name is diffusers'. */
  readonly attention_head_dim: number | readonly number[];
}

const oncePerPicture = /attn2\.to_[kv]|^(time|add)_embedding|time_emb_proj/;

/**
 * Counts the tasks of one step from the UNet's weights. Each weight is used once, at the resolution
 * of its level. Keys and values of the cross-attention depend on the prompt only, and the time
 * embeddings of all steps are projected together: both are computed once per picture and do not
 * count.
 */
export function countTasks(shapes: Shapes, config: CountedConfig, sizes: StepSizes): CountedTask[] {
  const { batch, tokens } = sizes;
  const counts = new Map<string, { task: PeerTask; perStep: number }>();
  const count = (task: PeerTask) => {
    const key = JSON.stringify(task);
    const entry = counts.get(key) ?? { task, perStep: 0 };
    counts.set(key, entry);
    entry.perStep++;
  };
  const lowest = config.block_out_channels.length - 1;
  for (const [name, shape] of shapes) {
    if (!name.endsWith("weight") || shape.length < 2 || oncePerPicture.test(name)) continue;
    const level = levelOf(name, lowest);
    const side = sizes.side >> level;
    const [outputs, inputs, kernel] = shape;
    if (shape.length === 4) {
      const stride = name.includes("downsamplers") ? 2 : 1;
      count({ op: "conv2d", batch, inChannels: inputs, outChannels: outputs, side, kernel, stride });
      continue;
    }
    count({ op: "matmul", m: batch * side ** 2, k: inputs, n: outputs, transposeB: true });
    if (!name.endsWith("to_q.weight")) continue;
    const { attention_head_dim: heads } = config;
    const levelHeads = typeof heads === "number" ? heads : heads[level];
    const s = name.includes("attn1") ? side ** 2 : tokens;
    count({ op: "attention", batch, heads: levelHeads, t: side ** 2, s, dim: outputs / levelHeads });
  }
  return [...counts.values()].sort((a, b) => b.perStep - a.perStep || taskFlops(b.task) - taskFlops(a.task));
}

/** The level of a weight: how often its input has been halved. */
function levelOf(name: string, lowest: number): number {
  const [, half, block] = /^(down|up)_blocks\.(\d+)/.exec(name) ?? [];
  if (half === "down") return Number(block);
  // An upsampler's convolution reads the upsampled input.
  if (half === "up") return lowest - Number(block) - (name.includes("upsamplers") ? 1 : 0);
  return name.startsWith("mid_block") ? lowest : 0;
}

/** [m, k, n], with weights stored [n, k]. */
type Product = readonly ["matmul", number, number, number];
/** Side and channels of the input, output channels, side of the kernel, stride. */
type Convolution = readonly ["conv2d", number, number, number, number, number];
/** Queries, keys, heads and head size. */
type Attention = readonly ["attention", number, number, number, number];

/**
 * A guided step of Stable Diffusion 1.4 at 512²: one picture, a batch of two. Occurrences and task;
 * the most common first, then the largest.
 */
const guidedStep: readonly (readonly [perStep: number, ...task: Product | Convolution | Attention])[] = [
  [30, "matmul", 8192, 320, 320],
  [30, "matmul", 2048, 640, 640],
  [30, "matmul", 512, 1280, 1280],
  [11, "conv2d", 8, 1280, 1280, 3, 1],
  [10, "conv2d", 64, 320, 320, 1, 1],
  [10, "conv2d", 32, 640, 640, 1, 1],
  [10, "conv2d", 16, 1280, 1280, 1, 1],
  [7, "conv2d", 64, 320, 320, 3, 1],
  [7, "conv2d", 16, 1280, 1280, 3, 1],
  [6, "conv2d", 32, 640, 640, 3, 1],
  [6, "matmul", 128, 1280, 1280],
  [5, "attention", 4096, 4096, 8, 40],
  [5, "matmul", 8192, 320, 2560],
  [5, "matmul", 2048, 640, 5120],
  [5, "matmul", 512, 1280, 10240],
  [5, "matmul", 8192, 1280, 320],
  [5, "matmul", 2048, 2560, 640],
  [5, "matmul", 512, 5120, 1280],
  [5, "attention", 1024, 1024, 8, 80],
  [5, "attention", 4096, 77, 8, 40],
  [5, "attention", 256, 256, 8, 160],
  [5, "attention", 1024, 77, 8, 80],
  [5, "attention", 256, 77, 8, 160],
  [3, "conv2d", 8, 2560, 1280, 3, 1],
  [3, "conv2d", 8, 2560, 1280, 1, 1],
  [2, "conv2d", 16, 2560, 1280, 3, 1],
  [2, "conv2d", 64, 640, 320, 3, 1],
  [2, "conv2d", 16, 2560, 1280, 1, 1],
  [2, "conv2d", 64, 640, 320, 1, 1],
  [2, "conv2d", 8, 1280, 1280, 1, 1],
  [1, "conv2d", 32, 1280, 1280, 3, 1],
  [1, "conv2d", 64, 640, 640, 3, 1],
  [1, "conv2d", 32, 1920, 640, 3, 1],
  [1, "conv2d", 64, 960, 320, 3, 1],
  [1, "conv2d", 32, 1280, 640, 3, 1],
  [1, "conv2d", 16, 1920, 1280, 3, 1],
  [1, "conv2d", 32, 960, 640, 3, 1],
  [1, "conv2d", 32, 320, 640, 3, 1],
  [1, "conv2d", 16, 640, 1280, 3, 1],
  [1, "conv2d", 32, 1920, 640, 1, 1],
  [1, "conv2d", 64, 960, 320, 1, 1],
  [1, "conv2d", 64, 320, 320, 3, 2],
  [1, "conv2d", 32, 640, 640, 3, 2],
  [1, "conv2d", 16, 1280, 1280, 3, 2],
  [1, "matmul", 128, 1280, 10240],
  [1, "conv2d", 32, 1280, 640, 1, 1],
  [1, "conv2d", 16, 1920, 1280, 1, 1],
  [1, "conv2d", 32, 960, 640, 1, 1],
  [1, "matmul", 128, 5120, 1280],
  [1, "conv2d", 32, 320, 640, 1, 1],
  [1, "conv2d", 16, 640, 1280, 1, 1],
  [1, "conv2d", 64, 4, 320, 3, 1],
  [1, "conv2d", 64, 320, 4, 3, 1],
  [1, "attention", 64, 77, 8, 160],
  [1, "attention", 64, 64, 8, 160],
];

/** Sizes of a guided step of Stable Diffusion 1.4 at 512². */
export const guidedSizes: StepSizes = { side: 64, batch: 2, tokens: 77 };

/** Number of leading rows that count as the most common. */
export const mostCommonCount = 30;

/** The rows of the table as tasks, in order. */
export const guidedTasks: readonly CountedTask[] = guidedStep.map(([perStep, ...row]) => ({
  perStep,
  task: taskOf(row),
}));

/**
 * The most common tasks of a guided step of SDXL at 1024², counted over the shapes of its UNet; the
 * most common first, then the largest.
 */
export const guidedXLTasks: readonly CountedTask[] = countTasks(
  unetShapes(sdxlConfigs.unet),
  sdxlConfigs.unet,
  { side: 128, batch: 2, tokens: 77 },
).slice(0, mostCommonCount);

function taskOf(row: Product | Convolution | Attention): PeerTask {
  const { batch } = guidedSizes;
  switch (row[0]) {
    case "matmul": {
      const [op, m, k, n] = row;
      return { op, m, k, n, transposeB: true };
    }
    case "conv2d": {
      const [op, side, inChannels, outChannels, kernel, stride] = row;
      return { op, batch, inChannels, outChannels, side, kernel, stride };
    }
    case "attention": {
      const [op, t, s, heads, dim] = row;
      return { op, batch, heads, t, s, dim };
    }
  }
}

function rowOf({ perStep, task }: CountedTask): string {
  const sizes = task.op === "matmul"
    ? [task.m, task.k, task.n]
    : task.op === "conv2d"
    ? [task.side, task.inChannels, task.outChannels, task.kernel, task.stride]
    : [task.t, task.s, task.heads, task.dim];
  return `  [${perStep}, "${task.op}", ${sizes.join(", ")}],`;
}

if (import.meta.main) {
  const [path] = Deno.args;
  const config = path === undefined ? configs.unet : JSON.parse(await Deno.readTextFile(path));
  console.log(countTasks(unetShapes(config), config, guidedSizes).map(rowOf).join("\n"));
}
