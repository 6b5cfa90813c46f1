import { declareKernel } from "../../engine/kernel/kernel.ts";
import { tileConstantTypes, tileExtensions, tileGrid, tileWgsl, usesWorkgroupMemory } from "../gemm/tile.ts";
import { convBlockOperandsWgsl, source, type Upsampling, upsamplings } from "./block_operands.ts";
import { convBindings, convConstantTypes, convCost, convEpilogueWgsl, convParams } from "./epilogue.ts";
import { quotientWgsl } from "./quotient.ts";

/**
 * Convolution as an implicit matrix product (implicit GEMM) on the tiles of gemm/tile.ts. A is the
 * weight [OC, K]. B is the patch matrix [K, OH·OW] of one image, which is never stored. Four
 * consecutive k are four input channels at one tap, so a block of B is a gather of four channels ×
 * four pixels that share one address and padding computation.
 *
 * A 1×1 kernel with stride 1 and without padding or upsampling is a plain product and reads x as
 * vec4.
 */
export const conv2dKernel = declareKernel({
  name: "conv2d",
  bindings: convBindings,
  params: {
    ...convParams,
    height: "u32", // of x
    width: "u32",
    up_height: "u32", // of x after upsampling
    up_width: "u32",
    out_width: "u32",
    kernel_width: "u32",
    per_kernel_width: "f32", // 1 / kernel_width, for quotient()
    per_kernel_row: "f32", // 1 / vec4 of weights of a kernel row
    weight_skip: "u32", // vec4 of a kernel row for channels that are not in the part
    stride: "u32",
    top: "u32", // padding
    left: "u32",
    tile_rows: "u32", // output channels per workgroup of a stationary tile
  },
  constants: { ...convConstantTypes, UPSAMPLE: upsamplings, SKIPS: "bool", ...tileConstantTypes },
  extensions: tileExtensions,
  wgsl: (constants) =>
    convEpilogueWgsl(constants) +
    (usesWorkgroupMemory(constants.STRATEGY)
      ? convBlockOperandsWgsl(constants)
      : constants.W_WIDTH === 8
      ? wideWgsl
      : weightWgsl + (constants.X_WIDTH === 4 ? pixelsWgsl : patchesWgsl(constants.UPSAMPLE))) +
    tileWgsl(constants, { loads: { a: "k", b: constants.X_WIDTH === 4 ? "lines" : "k" }, hasRowStart: true }),
  grid: (params, constants) => tileGrid(constants, params),
  cost: (params) => convCost(params),
});

/** Operand loads of 8 elements, for a convolution that is a plain product. */
const wideWgsl = /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row { return Row((params.weight_start + row * params.weight_row) / 2u); }
fn tile_a8(r: Row, k: u32) -> mat2x4f { return weight_at(r.start + k / 8u); }
struct Column { start: u32 }
struct Block { upper_left: mat4x4f, upper_right: mat4x4f, lower_left: mat4x4f, lower_right: mat4x4f }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column((params.x_start + batch * params.x_batch + min(column, params.n - 8u)) / 8u);
}
fn tile_b8(c: Column, k: u32) -> Block {
  let plane = params.n / 8u;
  let at = c.start + k * plane;
  ${Array.from({ length: 8 }, (_, i) => `let v${i} = x_at(at + ${i}u * plane);`).join(" ")}
  return Block(mat4x4f(v0[0], v1[0], v2[0], v3[0]), mat4x4f(v0[1], v1[1], v2[1], v3[1]),
    mat4x4f(v4[0], v5[0], v6[0], v7[0]), mat4x4f(v4[1], v5[1], v6[1], v7[1]));
}
`;

/** Loads of the packed weight. */
const weightWgsl = /* wgsl */ `${quotientWgsl("u32")}
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row { return Row(params.weight_start + row * params.weight_row); }
fn tile_a(r: Row, k: u32) -> vec4f {
  let tap = k / 4u; // (ky · channel vec4s + c) · KW + kx
  return weight_at(r.start + tap + quotient(tap, params.per_kernel_row) * params.weight_skip);
}
`;

/** Loads of x as vec4, for a convolution that is a plain product. */
const pixelsWgsl = /* wgsl */ `
struct Column { start: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column((params.x_start + batch * params.x_batch + min(column, params.n - 4u)) / 4u);
}
fn channel(c: Column, k: u32) -> vec4f { return x_at(c.start + min(k, params.in_channels - 1u) * (params.n / 4u)); }
fn tile_b(c: Column, k: u32) -> mat4x4f {
  return mat4x4f(channel(c, k), channel(c, k + 1u), channel(c, k + 2u), channel(c, k + 3u));
}
`;

/** Loads of patches: a gather of four channels × four pixels. */
const patchesWgsl = (upsample: Upsampling) => /* wgsl */ `
struct Column { start: u32, y: vec4u, x: vec4u }
fn tile_column(batch: u32, column: u32) -> Column {
  let pixel = min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(params.n - 1u));
  // Negative coordinates wrap around to values above any height or width.
  let y = pixel / params.out_width * params.stride - params.top;
  let x = pixel % params.out_width * params.stride - params.left;
  return Column(params.x_start + batch * params.x_batch, y, x);
}
fn channel(at: vec4u, inside: vec4<bool>, index: u32) -> vec4f {
  let p = at + min(index, params.in_channels - 1u) * (params.height * params.width);
  return select(vec4f(), vec4f(x_at(p.x), x_at(p.y), x_at(p.z), x_at(p.w)), inside);
}
fn tile_b(c: Column, k: u32) -> mat4x4f {
  let tap = k / 4u;
  let q = quotient(tap, params.per_kernel_width);
  let ky = quotient(tap, params.per_kernel_row);
  let x = c.x + (tap - q * params.kernel_width);
  let y = c.y + ky;
  let index = (q - ky * ((params.in_channels + 3u) / 4u)) * 4u;
  let inside = (y < vec4u(params.up_height)) & (x < vec4u(params.up_width));
  let at = select(vec4u(), ${source(upsample, "y", "height", "up_height")} * params.width + ${
  source(upsample, "x", "width", "up_width")
}, inside) + c.start;
  return mat4x4f(channel(at, inside, index), channel(at, inside, index + 1u), channel(at, inside, index + 2u), channel(at, inside, index + 3u));
}
`;
