import { activationWgsl } from "../wgsl/activation.ts";
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

/**
 * The operands and the epilogue of matmul on workgroup tiles; see tile.ts. With WHOLE, k is a
 * multiple of the blocks' depth, and no load checks it.
 */
export function blockOperandsWgsl(constants: BlockConstants): string {
  const { A_WIDTH: aWidth, B_WIDTH: bWidth, TRANSPOSE_A: isTransposedA, TRANSPOSE_B: isTransposedB, WHOLE } = constants;
  const inside = (k: string, last: string) => WHOLE ? k : `min(${k}, params.k - ${last})`;
  const vector = loadVector(constants.STRATEGY), isHalf = vector !== "vec4f";
  const [scalar, zero, at] = isHalf ? ["f16", "0.0h", "half_at"] : ["f32", "0.0", "at"];
  const four = (text: (i: number) => string) => `${vector}(${[0, 1, 2, 3].map(text).join(", ")})`;
  return /* wgsl */ `
struct Row { start: u32 }
fn tile_row(batch: u32, row: u32) -> Row {
  return Row((a_start(batch) + row${isTransposedA ? "" : " * params.a_row"}) / ${aWidth}u);
}
${
    aWidth === 4
      ? `fn tile_a(r: Row, k: u32) -> ${vector} {
  let value = a_${at}(r.start + ${inside("k", "4u")} / 4u);
  return ${WHOLE ? "value" : `select(${vector}(), value, k < params.k)`};
}`
      : `fn a_one(r: Row, k: u32) -> ${scalar} {
  let value = a_${at}(r.start + ${inside("k", "1u")}${isTransposedA ? " * params.a_row" : ""});
  return ${WHOLE ? "value" : `select(${zero}, value, k < params.k)`};
}
fn tile_a(r: Row, k: u32) -> ${vector} { return ${four((i) => `a_one(r, k + ${i}u)`)}; }`
  }
struct Column { ${isTransposedB || bWidth === 4 ? "start: u32" : "start: vec4u"}, step: u32 }
${
    isTransposedB
      ? `fn tile_column(batch: u32, column: u32) -> Column {
  return Column((b_start(batch) + min(column, last_column()) * params.b_row) / ${bWidth}u, 0u);
}
fn tile_b_k(c: Column, k: u32) -> ${vector} { return ${
        bWidth === 4
          ? `b_${at}(c.start + ${inside("k", "4u")} / 4u)`
          : four((i) => `b_${at}(c.start + ${inside(`k + ${i}u`, "1u")})`)
      }; }`
      : `fn tile_column(batch: u32, column: u32) -> Column {
  return Column(${
        bWidth === 4
          ? "(b_start(batch) + min(column, last_column() - 3u)) / 4u"
          : "b_start(batch) + min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(last_column()))"
      }, params.b_row / ${bWidth}u);
}
fn tile_b_line(c: Column, k: u32) -> ${vector} {
  let first = c.start + ${inside("k", "1u")} * c.step;
  return ${bWidth === 4 ? `b_${at}(first)` : four((i) => `b_${at}(first[${i}])`)};
}`
  }
${biasWgsl}fn tile_place(batch: u32, row: u32) -> u32 { return place(batch, row, 0u); }
fn tile_step(rows: u32) -> u32 { return rows * params.y_row; }
fn tile_end(sum: vec4f, of_column: vec4f, of_row: f32) -> vec4f {
  return fma(sum, vec4f(params.scale), of_column + vec4f(of_row));
}
${blockStoreWgsl(constants.Y_WIDTH)}
${
    constants.GATED
      ? `${activationWgsl({ ACTIVATION: "gelu" })}
fn tile_gate(value: vec4f, gate: vec4f) -> vec4f { return value * activate(gate); }`
      : ""
  }`;
}

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
