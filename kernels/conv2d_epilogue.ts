import { type Cost, input, output } from "../engine/kernel.ts";
import { activationWgsl } from "./activation.ts";

/**
 * What all convolution kernels share: operands and the end of the work,
 * y = activation(sum + earlier partial sum + bias + channelBias) + residual.
 *
 * Constants X_LANES and Y_LANES tell whether x and y are accessed in fours; BIAS, CHANNEL_BIAS and RESIDUAL which operands there are;
 * ACCUMULATE, that y holds the sum over earlier input channels.
 */
export const convBindings = {
  weight: input(4),
  x: input("X_LANES"),
  bias: input(1),
  channel_bias: input(1),
  residual: input("Y_LANES"),
  y: output("Y_LANES"),
} as const;

/**
 * Parameters of every convolution kernel: `m` output channels, `n` output pixels, `k` weights of an output channel and image as they are
 * packed; `x_start` and the like are the first element (of the weights: the first four) in what is bound.
 */
export const convParams = {
  m: "u32",
  n: "u32",
  k: "u32",
  batch: "u32",
  in_channels: "u32",
  x_start: "u32",
  x_batch: "u32",
  weight_start: "u32",
  weight_row: "u32",
  y_start: "u32",
  bias_start: "u32",
  channel_bias_start: "u32",
} as const;

/** Names of the constants that the operands need. */
export const convConstantNames = [
  "X_LANES",
  "Y_LANES",
  "BIAS",
  "CHANNEL_BIAS",
  "RESIDUAL",
  "ACCUMULATE",
  "ACTIVATION",
  "UPSAMPLE",
] as const;

/** WGSL `tile_put(batch, channel, pixel, sum)`: ends the sums of four neighbouring pixels. Only what is needed, as it is inlined often. */
export function convEpilogueWgsl(constants: Readonly<Record<string, unknown>>): string {
  const { BIAS, CHANNEL_BIAS, RESIDUAL, ACCUMULATE, Y_LANES } = constants;
  const terms = [
    BIAS && "vec4f(bias_at(params.bias_start + row))",
    CHANNEL_BIAS && "vec4f(channel_bias_at(params.channel_bias_start + batch * params.m + row))",
    ACCUMULATE && (Y_LANES === 4 ? "y_at(at / 4u)" : "partial(at, params.n - 1u - column)"),
  ].filter(Boolean).map((term) => ` + ${term}`).join("");
  const put = Y_LANES === 4 ? `y_put(at / 4u, value${RESIDUAL ? " + residual_at(at / 4u)" : ""});` : `put1(at, value.x);
  if (column + 1u < params.n) { put1(at + 1u, value.y); }
  if (column + 2u < params.n) { put1(at + 2u, value.z); }
  if (column + 3u < params.n) { put1(at + 3u, value.w); }`;
  const ones = Y_LANES === 4 ? "" : `
fn put1(at: u32, value: f32) { y_put(at, value${RESIDUAL ? " + residual_at(at)" : ""}); }
fn partial(at: u32, last: u32) -> vec4f {
  return vec4f(y_at(at), y_at(at + min(1u, last)), y_at(at + min(2u, last)), y_at(at + min(3u, last)));
}`;
  return /* wgsl */ `${activationWgsl(constants)}${ones}
fn tile_put(batch: u32, row: u32, column: u32, sum: vec4f) {
  let at = params.y_start + (batch * params.m + row) * params.n + column;
  let value = activate(sum${terms});
  ${put}
}
`;
}

/** The arithmetic and traffic of a convolution by its definition. */
export function convCost(p: Readonly<Record<"m" | "n" | "k" | "batch" | "x_batch" | "in_channels", number>>): Cost {
  const { m, n, k, batch, x_batch, in_channels } = p;
  const taps = k / (4 * Math.ceil(in_channels / 4));
  return { flops: 2 * batch * m * n * in_channels * taps, bytes: 4 * (batch * (x_batch + m * n) + m * k) };
}
