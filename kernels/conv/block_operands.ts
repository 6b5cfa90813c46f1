import { loadVector, type TileShape } from "../gemm/tile_shape.ts";
import type { Activation } from "../wgsl/activation.ts";
import { quotientWgsl } from "./quotient.ts";

/** Nearest-neighbor upsampling of the input: none, to twice its size, or to any size. */
export const upsamplings = ["none", "double", "any"] as const;
/** One of {@linkcode upsamplings}. */
export type Upsampling = typeof upsamplings[number];

/** WGSL for the input coordinate of a coordinate in the upsampled image. */
export const source = (upsample: Upsampling, at: string, from: string, to: string): string =>
  upsample === "any" ? `${at} * params.${from} / params.${to}` : upsample === "double" ? `${at} / 2u` : at;

/** Constants of the general convolution on which its block operands depend. */
interface BlockConstants {
  readonly STRATEGY: TileShape["strategy"];
  readonly X_WIDTH: number;
  readonly UPSAMPLE: Upsampling;
  readonly WHOLE: boolean;
  readonly SKIPS: boolean;
  readonly ACTIVATION: "none" | Activation;
}

/**
 * The operands of the general convolution on workgroup tiles; see gemm/tile.ts. With WHOLE, k is a
 * multiple of the blocks' depth and channels come in fours, so no load checks either. With SKIPS, a
 * dispatch has part of the input channels, so the weight's rows have gaps.
 */
export function convBlockOperandsWgsl({ STRATEGY, X_WIDTH, UPSAMPLE, WHOLE, SKIPS }: BlockConstants): string {
  const vector = loadVector(STRATEGY), at = vector === "vec4f" ? "at" : "half_at";
  const inside = (k: string, last: string) => WHOLE ? k : `min(${k}, params.k - ${last})`;
  const gap = SKIPS ? " + u32(quotient(f32(tap), params.per_kernel_row)) * params.weight_skip" : "";
  return /* wgsl */ `${quotientWgsl("f32")}
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row { return Row(params.weight_start + row * params.weight_row); }
fn tile_a(r: Row, k: u32) -> ${vector} {
  let tap = ${inside("k", "4u")} / 4u; // (ky · channel vec4s + c) · KW + kx
  let value = weight_${at}(r.start + tap${gap});
  return ${WHOLE ? "value" : `select(${vector}(), value, k < params.k)`};
}
${X_WIDTH === 4 ? pixelsWgsl({ inside, vector, at }) : patchesWgsl(UPSAMPLE, WHOLE, { inside, vector, at })}`;
}

/** How operands are loaded: k clamped, the WGSL type of a load, and the accessor's suffix. */
interface OperandText {
  readonly inside: (k: string, last: string) => string;
  readonly vector: string;
  readonly at: string;
}

/** Loads of x as vec4 of pixels, for a convolution that is a plain product. */
const pixelsWgsl = ({ inside, vector, at }: OperandText) => /* wgsl */ `
struct Column { start: u32, step: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column((params.x_start + batch * params.x_batch + min(column, params.n - 4u)) / 4u, params.n / 4u);
}
fn tile_b_line(c: Column, k: u32) -> ${vector} { return x_${at}(c.start + min(${
  inside("k", "1u")
}, params.in_channels - 1u) * c.step); }
`;

/**
 * Loads of four channels of one pixel at one tap. What depends on the tap is the same for all
 * pixels of an invocation, which the compiler computes once.
 */
const patchesWgsl = (upsample: Upsampling, isWhole: boolean, { inside, vector, at }: OperandText) => {
  // whole fours of channels need one product, and the rest is uniform
  const channel = (i: number) => isWhole ? `${i}u` : `min(index + ${i}u, params.in_channels - 1u)`;
  const isResized = upsample !== "none";
  return /* wgsl */ `
struct Column { start: u32, y: u32, x: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  let pixel = min(column, params.n - 1u);
  // Negative coordinates wrap around to values above any height or width.
  let y = pixel / params.out_width * params.stride - params.top;
  let x = pixel % params.out_width * params.stride - params.left;
  return Column(params.x_start + batch * params.x_batch${isResized ? "" : " + y * params.width + x"}, y, x);
}
fn tile_b_k(c: Column, k: u32) -> ${vector} {
  let tap = f32(${inside("k", "4u")} / 4u);
  let q = quotient(tap, params.per_kernel_width);
  let ky = quotient(tap, params.per_kernel_row);
  let tap_x = u32(fma(-q, f32(params.kernel_width), tap));
  let tap_y = u32(ky);
  let index = u32(fma(-ky, f32((params.in_channels + 3u) / 4u), q)) * 4u;
  let y = c.y + tap_y;
  let x = c.x + tap_x;
  let plane = params.height * params.width;
  let is_inside = (y < params.up_height) & (x < params.up_width);
  let pixel = ${
    isResized
      ? `c.start + ${source(upsample, "y", "height", "up_height")} * params.width + ${
        source(upsample, "x", "width", "up_width")
      }`
      : "c.start + (tap_y * params.width + tap_x)"
  };
  let first = select(0u, pixel, is_inside)${isWhole ? " + index * plane" : ""};
  let values = ${vector}(${[0, 1, 2, 3].map((i) => `x_${at}(first + ${channel(i)} * plane)`).join(", ")});
  return select(${vector}(), values, is_inside);
}
`;
};
