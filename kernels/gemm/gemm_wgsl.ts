/** WGSL of the matrix product: operand loads, addresses and the epilogue; see gemm.ts. @module */

import { eachInLine } from "../wgsl/text.ts";

/** Operand loads of 8 elements. When B is stored [N, K], its blocks are transposed in registers. */
export const wideOperandsWgsl = ({ TRANSPOSE_B }: { readonly TRANSPOSE_B: boolean }): string => /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row { return Row((a_start(batch) + row * params.a_row) / 8u); }
fn tile_a8(r: Row, k: u32) -> mat2x4f { return params.scale * a_at(r.start + k / 8u); }

struct Column { start: u32 }
struct Block { upper_left: mat4x4f, upper_right: mat4x4f, lower_left: mat4x4f, lower_right: mat4x4f }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column((b_start(batch) + min(column, params.n - 8u)${TRANSPOSE_B ? " * params.b_row" : ""}) / 8u);
}
fn tile_b8(c: Column, k: u32) -> Block {
  let row = params.b_row / 8u;
  let start = c.start + k${TRANSPOSE_B ? " / 8u" : " * row"};
  ${eachInLine(8, (i) => `let v${i} = b_at(start + ${i}u * row);`)}
  let left_top = mat4x4f(v0[0], v1[0], v2[0], v3[0]);
  let right_top = mat4x4f(v0[1], v1[1], v2[1], v3[1]);
  let left_bottom = mat4x4f(v4[0], v5[0], v6[0], v7[0]);
  let right_bottom = mat4x4f(v4[1], v5[1], v6[1], v7[1]);
  ${
  TRANSPOSE_B
    ? "return Block(transpose(left_top), transpose(left_bottom), transpose(right_top), transpose(right_bottom));"
    : "return Block(left_top, right_top, left_bottom, right_bottom);"
}
}
`;

/** Operand loads of 4 elements, or of one where rows are no multiple of 4. */
export const operandsWgsl = /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row {
  return Row(a_start(batch) + select(row * params.a_row, row, TRANSPOSE_A));
}
fn a_one(r: Row, k: u32) -> f32 {
  let at = min(k, params.k - 1u);
  let value = vec4f(a_at(r.start + select(at, at * params.a_row, TRANSPOSE_A))).x;
  return select(0.0, value, k < params.k);
}
fn tile_a(r: Row, k: u32) -> vec4f { // scaled here: A is loaded once for many columns
  if (A_WIDTH == 4) { return vec4f(a_at((r.start + k) / 4u)) * params.scale; }
  return params.scale * vec4f(a_one(r, k), a_one(r, k + 1u), a_one(r, k + 2u), a_one(r, k + 3u));
}

struct Column { start: u32, at: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column(b_start(batch), column);
}
fn b_row4(c: Column, k: u32) -> vec4f { // B stored [K, N]
  let start = c.start + min(k, params.k - 1u) * params.b_row;
  let last = last_column();
  if (B_WIDTH == 4) { return vec4f(b_at((start + min(c.at, last - 3u)) / 4u)); }
  return vec4f(vec4f(b_at(start + min(c.at, last))).x, vec4f(b_at(start + min(c.at + 1u, last))).x,
    vec4f(b_at(start + min(c.at + 2u, last))).x, vec4f(b_at(start + min(c.at + 3u, last))).x);
}
fn b_column4(c: Column, offset: u32, k: u32) -> vec4f { // B stored [N, K]
  let start = c.start + min(c.at + offset, last_column()) * params.b_row;
  if (B_WIDTH == 4) { return vec4f(b_at((start + k) / 4u)); }
  let last = params.k - 1u;
  return vec4f(vec4f(b_at(start + min(k, last))).x, vec4f(b_at(start + min(k + 1u, last))).x,
    vec4f(b_at(start + min(k + 2u, last))).x, vec4f(b_at(start + min(k + 3u, last))).x);
}
fn tile_b(c: Column, k: u32) -> mat4x4f {
  if (TRANSPOSE_B) { return transpose(mat4x4f(b_column4(c, 0u, k), b_column4(c, 1u, k), b_column4(c, 2u, k), b_column4(c, 3u, k))); }
  return mat4x4f(b_row4(c, k), b_row4(c, k + 1u), b_row4(c, k + 2u), b_row4(c, k + 3u));
}
`;

/** Where the matrices of a batch begin, and where an element of the result is stored. */
export const addressesWgsl = /* wgsl */ `
fn a_start(batch: u32) -> u32 { return params.a_offset + batch / params.inner * params.a_outer + batch % params.inner * params.a_inner; }
fn b_start(batch: u32) -> u32 { return params.b_offset + batch / params.inner * params.b_outer + batch % params.inner * params.b_inner; }
// the last column of B
fn last_column() -> u32 { return select(params.n, 2u * params.n, GATED) - 1u; }
fn place(batch: u32, row: u32, column: u32) -> u32 {
  return params.y_offset + batch / params.inner * params.y_outer + batch % params.inner * params.y_inner + row * params.y_row + column;
}
`;

/** What the bias adds to a row, and to 4 columns. */
export const biasWgsl = /* wgsl */ `
fn tile_row_end(batch: u32, row: u32) -> f32 {
  if (params.bias_axis == 2u) { return bias_at(row); }
  return 0.0;
}
fn tile_column_end(column: u32) -> vec4f {
  if (params.bias_axis != 1u) { return vec4f(); }
  let last = last_column();
  return vec4f(bias_at(min(column, last)), bias_at(min(column + 1u, last)), bias_at(min(column + 2u, last)),
    bias_at(min(column + 3u, last)));
}
`;

/** What the sums of a row start from, on the tiles of software devices. */
export const rowStartWgsl = /* wgsl */ `
fn tile_row_start(batch: u32, row: u32) -> f32 { return tile_row_end(batch, row); }
fn tile_accumulates() -> bool { return false; }
`;

/** Adds the residual to the sums of a subgroup tile, `width` elements at a time. */
export const epilogueWgsl = (width: number): string =>
  width === 8
    ? /* wgsl */ `
fn tile_end8(batch: u32, row: u32, column: u32, sum: mat2x4f) -> mat2x4f {
  var value = sum;
  if (params.has_residual == 1u) { value += residual_at(place(batch, row, column) / 8u); }
  return value;
}
`
    : width === 4
    ? /* wgsl */ `
fn tile_end(batch: u32, row: u32, column: u32, sum: vec4f) -> vec4f {
  var value = sum;
  if (params.has_residual == 1u) { value += residual_at(place(batch, row, column) / 4u); }
  return value;
}
`
    : /* wgsl */ `
fn tile_end(batch: u32, row: u32, column: u32, sum: vec4f) -> vec4f {
  if (params.has_residual != 1u) { return sum; }
  let at = place(batch, row, column);
  let last = params.n - 1u - column;
  return sum
    + vec4f(residual_at(at), residual_at(at + min(1u, last)), residual_at(at + min(2u, last)), residual_at(at + min(3u, last)));
}
`;
