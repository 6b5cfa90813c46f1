import { activationWgsl } from "../wgsl/activation.ts";
import { eachInLine } from "../wgsl/text.ts";
import { loadVector, storeOnesWgsl, type TileShape } from "./tile_shape.ts";
import { biasWgsl } from "./gemm_wgsl.ts";

/** Constants of matmul's kernel on which its block operands depend. */
interface BlockConstants {
  readonly STRATEGY: TileShape["strategy"];
  readonly A_WIDTH: number;
  readonly B_WIDTH: number;
  readonly Y_WIDTH: number;
  readonly TRANSPOSE_A: boolean;
  readonly TRANSPOSE_B: boolean;
  readonly WHOLE: boolean;
  readonly GATED: boolean;
}

/** The operands and the epilogue of matmul on tiles with workgroup memory; see tile.ts. */
export const blockOperandsWgsl = (constants: BlockConstants): string => /* wgsl */ `
${rowsWgsl(constants)}
${constants.TRANSPOSE_B ? storedColumnsWgsl(constants) : columnsWgsl(constants)}
${biasWgsl}fn tile_place(batch: u32, row: u32) -> u32 { return place(batch, row, 0u); }
fn tile_step(rows: u32) -> u32 { return rows * params.y_row; }
fn tile_end(sum: vec4f, of_column: vec4f, of_row: f32) -> vec4f {
  return fma(sum, vec4f(params.scale), of_column + vec4f(of_row));
}
${blockStoreWgsl(constants.Y_WIDTH)}
${constants.GATED ? gateWgsl : ""}`;

/** Texts for loads of vec4. With WHOLE, no load reaches beyond the end of k, and none checks it. */
function loadTexts({ STRATEGY, WHOLE }: BlockConstants) {
  const vector = loadVector(STRATEGY), isHalf = vector !== "vec4f";
  return {
    vector,
    scalar: isHalf ? "f16" : "f32",
    /** The suffix of accessors. */
    at: isHalf ? "half_at" : "at",
    four: (text: (i: number) => string) => `${vector}(${eachInLine(4, text, ", ")})`,
    /** `k`, clamped such that a load of `length` elements ends where k ends. */
    inside: (k: string, length: 1 | 4) => WHOLE ? k : `min(${k}, params.k - ${length}u)`,
    /** `value`, or zero beyond the end of k. */
    zeroed: (value: string, zero: string) => WHOLE ? value : `select(${zero}, ${value}, k < params.k)`,
  };
}

/** `tile_row` and `tile_a`: loads of A. */
function rowsWgsl(constants: BlockConstants): string {
  const { A_WIDTH: width, TRANSPOSE_A: isTransposed } = constants;
  const { vector, scalar, at, four, inside, zeroed } = loadTexts(constants);
  const row = /* wgsl */ `struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row {
  return Row((a_start(batch) + row${isTransposed ? "" : " * params.a_row"}) / ${width}u);
}`;
  if (width === 4) {
    return /* wgsl */ `${row}
fn tile_a(r: Row, k: u32) -> ${vector} {
  let value = a_${at}(r.start + ${inside("k", 4)} / 4u);
  return ${zeroed("value", `${vector}()`)};
}`;
  }
  return /* wgsl */ `${row}
fn a_one(r: Row, k: u32) -> ${scalar} {
  let value = a_${at}(r.start + ${inside("k", 1)}${isTransposed ? " * params.a_row" : ""});
  return ${zeroed("value", scalar === "f16" ? "0.0h" : "0.0")};
}
fn tile_a(r: Row, k: u32) -> ${vector} { return ${four((i) => `a_one(r, k + ${i}u)`)}; }`;
}

/** `tile_column` and `tile_b_k`: loads of B [N, K], whose columns are stored as rows. */
function storedColumnsWgsl(constants: BlockConstants): string {
  const { B_WIDTH: width } = constants, { vector, at, four, inside } = loadTexts(constants);
  const loaded = width === 4
    ? `b_${at}(c.start + ${inside("k", 4)} / 4u)`
    : four((i) => `b_${at}(c.start + ${inside(`k + ${i}u`, 1)})`);
  return /* wgsl */ `struct Column { start: u32, step: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column((b_start(batch) + min(column, last_column()) * params.b_row) / ${width}u, 0u);
}
fn tile_b_k(c: Column, k: u32) -> ${vector} { return ${loaded}; }`;
}

/** `tile_column` and `tile_b_line`: loads of B [K, N]. */
function columnsWgsl(constants: BlockConstants): string {
  const { B_WIDTH: width } = constants, { vector, at, four, inside } = loadTexts(constants);
  const start = width === 4
    ? "(b_start(batch) + min(column, last_column() - 3u)) / 4u"
    : "b_start(batch) + min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(last_column()))";
  return /* wgsl */ `struct Column { start: ${width === 4 ? "u32" : "vec4u"}, step: u32 }
fn tile_column(batch: u32, column: u32) -> Column {
  return Column(${start}, params.b_row / ${width}u);
}
fn tile_b_line(c: Column, k: u32) -> ${vector} {
  let first = c.start + ${inside("k", 1)} * c.step;
  return ${width === 4 ? `b_${at}(first)` : four((i) => `b_${at}(first[${i}])`)};
}`;
}

/** `tile_gate`: see GemmOptions.gated. */
const gateWgsl = /* wgsl */ `${activationWgsl({ ACTIVATION: "gelu" })}
fn tile_gate(value: vec4f, gate: vec4f) -> vec4f { return value * activate(gate); }`;

/** `tile_store`, which adds the residual. */
function blockStoreWgsl(width: number): string {
  if (width === 4) {
    return /* wgsl */ `
fn tile_store(start: u32, column: u32, value: vec4f) {
  let at = (start + column) / 4u;
  if (params.has_residual == 1u) { y_put(at, value + residual_at(at)); } else { y_put(at, value); }
}`;
  }
  return /* wgsl */ `
fn store_one(at: u32, value: f32) {
  if (params.has_residual == 1u) { y_put(at, value + residual_at(at)); } else { y_put(at, value); }
}${storeOnesWgsl}`;
}
