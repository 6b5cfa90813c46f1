import { type Cost, input, output } from "../../engine/kernel/kernel.ts";
import { storeOnesWgsl, storeWgsl, type TileConstants, usesWorkgroupMemory } from "../gemm/tile_shape.ts";
import { type Activation, activationValues, activationWgsl } from "../wgsl/activation.ts";

/**
 * Bindings that all convolution kernels share. Their epilogue is y = activation(sum + earlier
 * partial sum + bias + channelBias) + residual.
 *
 * X_WIDTH, Y_WIDTH and W_WIDTH are the elements per access of x, y and the weight. Optional
 * operands are switched by params, not by constants, so that they make no variants: `has_bias`,
 * `has_channel_bias`, `has_residual`. With `accumulate`, y holds the sum over earlier input
 * channels.
 */
export const convBindings = {
  weight: input("W_WIDTH"),
  x: input("X_WIDTH"),
  bias: input(1),
  channel_bias: input(1),
  residual: input("Y_WIDTH"),
  y: output("Y_WIDTH"),
} as const;

/**
 * Params of every convolution kernel. They describe the part of a convolution that a dispatch
 * computes. `*_start` is the first element within the bound window.
 */
export const convParams = {
  m: "u32", // output channels
  n: "u32", // output pixels per image
  k: "u32", // packed weights per output channel
  batch: "u32", // images
  in_channels: "u32",
  x_start: "u32",
  x_batch: "u32", // elements of x per image
  weight_start: "u32", // counts vec4
  weight_row: "u32", // vec4 of weights from one output channel to the next
  y_start: "u32",
  residual_start: "u32",
  bias_start: "u32",
  channel_bias_start: "u32",
  channel_bias_stride: "u32", // from one image to the next; 0 where they share a row
  has_bias: "u32",
  has_channel_bias: "u32",
  has_residual: "u32",
  accumulate: "u32",
} as const;

/** Params of the kernels for 3×3. */
export const conv3x3Params = {
  ...convParams,
  width: "u32", // of y
  height: "u32", // of x after upsampling
  weight_kernel_row: "u32", // vec4 of weights from one kernel row to the next
} as const;

/** Types of the constants that every convolution kernel has. */
export const convConstantTypes = {
  X_WIDTH: "u32",
  Y_WIDTH: "u32",
  W_WIDTH: "u32",
  ACTIVATION: activationValues,
} as const;

/**
 * WGSL `tile_end` and `tile_put` for gemm/tile.ts. Rows are output channels, columns are pixels.
 *
 * On subgroup tiles, sums start from the biases, and `tile_end` adds none. Where the lanes of a
 * subgroup hold pixels of several images, sums start from `row_bias(row)`, and the kernel adds
 * `image_bias(batch, row)`.
 */
export function convEpilogueWgsl(
  constants: {
    readonly Y_WIDTH: number;
    readonly ACTIVATION: "none" | Activation;
    readonly STRATEGY?: TileConstants["STRATEGY"];
  },
): string {
  const hasBlocks = constants.STRATEGY !== undefined && usesWorkgroupMemory(constants.STRATEGY);
  return /* wgsl */ `${activationWgsl(constants)}
fn place(batch: u32, row: u32, column: u32) -> u32 { return params.y_start + (batch * params.m + row) * params.n + column; }
// The residual's index. Its dtype, and with it the alignment of its window, may differ from y's.
fn residual_place(at: u32) -> u32 { return at - params.y_start + params.residual_start; }
fn row_bias(row: u32) -> f32 {
  if (params.has_bias == 0u) { return 0.0; }
  return bias_at(params.bias_start + row);
}
fn image_bias(batch: u32, row: u32) -> f32 {
  if (params.has_channel_bias == 0u) { return 0.0; }
  return channel_bias_at(params.channel_bias_start + batch * params.channel_bias_stride + row);
}
fn biases(batch: u32, row: u32) -> f32 { return row_bias(row) + image_bias(batch, row); }
${
    hasBlocks
      ? blockEpilogueWgsl(constants.Y_WIDTH)
      : tileEpilogueWgsl(constants.Y_WIDTH, constants.STRATEGY === "stationary")
  }`;
}

const tileEpilogueWgsl = (width: number, isStationary: boolean) =>
  "fn tile_row_start(batch: u32, row: u32) -> f32 { return biases(batch, row); }" + storeWgsl(width) +
  (width === 8 ? vec8EpilogueWgsl(isStationary) : vec4EpilogueWgsl(width));

/** The epilogue on workgroup tiles; see gemm/tile.ts. */
const blockEpilogueWgsl = (width: number) => /* wgsl */ `
fn tile_row_end(batch: u32, row: u32) -> f32 { return biases(batch, row); }
fn tile_column_end(column: u32) -> f32 { return 0.0; }
fn tile_end(sum: vec4f, of_column: f32, of_row: f32) -> vec4f { return sum + vec4f(of_row); }
fn tile_place(batch: u32, row: u32) -> u32 { return place(batch, row, 0u); }
fn tile_step(rows: u32) -> u32 { return rows * params.n; }
${width === 4 ? blockStoreVec4Wgsl : blockStoreWgsl}`;

const blockStoreVec4Wgsl = /* wgsl */ `
fn tile_store(start: u32, column: u32, sum: vec4f) {
  let at = start + column;
  var value = sum;
  if (params.accumulate == 1u) { value += y_at(at / 4u); }
  value = activate(value);
  if (params.has_residual == 1u) { value += residual_at(residual_place(at) / 4u); }
  y_put(at / 4u, value);
}`;

const blockStoreWgsl = /* wgsl */ `
fn store_one(at: u32, sum: f32) {
  var value = sum;
  if (params.accumulate == 1u) { value += y_at(at); }
  value = activate(vec4f(value)).x;
  if (params.has_residual == 1u) { value += residual_at(residual_place(at)); }
  y_put(at, value);
}${storeOnesWgsl}`;

const vec4EpilogueWgsl = (width: number) =>
  (width === 4
    ? /* wgsl */ `
fn y4(at: u32, column: u32) -> vec4f { return y_at(at / 4u); }
fn residual4(at: u32, column: u32) -> vec4f { return residual_at(residual_place(at) / 4u); }`
    : /* wgsl */ `
fn y4(at: u32, column: u32) -> vec4f {
  let last = params.n - 1u - column;
  return vec4f(y_at(at), y_at(at + min(1u, last)), y_at(at + min(2u, last)), y_at(at + min(3u, last)));
}
fn residual4(at: u32, column: u32) -> vec4f {
  let last = params.n - 1u - column;
  let from_at = residual_place(at);
  return vec4f(residual_at(from_at), residual_at(from_at + min(1u, last)), residual_at(from_at + min(2u, last)),
    residual_at(from_at + min(3u, last)));
}`) + /* wgsl */ `
fn tile_end(batch: u32, row: u32, column: u32, sum: vec4f) -> vec4f {
  let at = place(batch, row, column);
  var value = sum;
  if (params.accumulate == 1u) { value += y4(at, column); }
  value = activate(value);
  if (params.has_residual == 1u) { value += residual4(at, column); }
  return value;
}`;

/** Sums of a stationary tile start from earlier partial sums. Other sums get them here. */
const vec8EpilogueWgsl = (isStationary: boolean) => /* wgsl */ `
fn tile_accumulates() -> bool { return params.accumulate == 1u; }
fn tile_end8(batch: u32, row: u32, column: u32, sum: mat2x4f) -> mat2x4f {
  let at = place(batch, row, column);
  var value = sum;
  ${isStationary ? "" : "if (tile_accumulates()) { value += y_at(at / 8u); }"}
  value = mat2x4f(activate(value[0]), activate(value[1]));
  if (params.has_residual == 1u) { value += residual_at(residual_place(at) / 8u); }
  return value;
}`;

/** Cost of a convolution by definition: multiply-adds, and each operand moved once. */
export function convCost(p: Readonly<Record<"m" | "n" | "k" | "batch" | "x_batch" | "in_channels", number>>): Cost {
  const { m, n, k, batch, x_batch, in_channels } = p;
  const taps = k / (4 * Math.ceil(in_channels / 4));
  return { flops: 2 * batch * m * n * in_channels * taps, bytes: 4 * (batch * (x_batch + m * n) + m * k) };
}
