import { declareKernel, storage } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { flatGrid, flatWgsl } from "../wgsl/elementwise.ts";

/** Bits per slice; see exact_product.ts. */
export const sliceBits = 9;

/** A matrix split into slices. */
export interface Sliced extends Disposable {
  /** The integers q as f32 [count · rows, columns], most significant slice first. */
  readonly digits: Tensor;
  /** 2^e, one per row or per column. */
  readonly scales: Tensor;
  /** Whether the matrix is a left factor (one scale per row) or a right one (per column). */
  readonly along: "rows" | "columns";
  /** Number of slices. */
  readonly count: number;
  /** Rows of the matrix. */
  readonly rows: number;
  /** Columns of the matrix. */
  readonly columns: number;
}

/**
 * A matrix held as the unevaluated sum of two f32 matrices; `low` is below the rounding of `high`.
 */
export interface Pair extends Disposable {
  readonly high: Tensor;
  readonly low: Tensor;
}

const scaleKernel = declareKernel({
  name: "exact_slice_scales",
  bindings: { x: storage("read", "array<f32>"), scales: storage("write", "array<f32>") },
  params: { lines: "u32", line_stride: "u32", terms: "u32", term_stride: "u32" },
  wgsl: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.lines) { return; }
  var most = 0.0;
  var at = id.x * params.line_stride;
  for (var i = 0u; i < params.terms; i++) { most = max(most, abs(x[at])); at += params.term_stride; }
  // The scale is a power of two above twice the maximum, so that |q₀| ≤ 256. Rows or columns of
  // zeros get 1.
  let exponent = select(127u, (bitcast<u32>(most) >> 23u) + 2u, most > 0.0);
  scales[id.x] = bitcast<f32>(exponent << 23u);
}`,
  grid: ({ lines }) => [Math.ceil(lines / 64), 1, 1],
  cost: ({ lines, terms }) => ({ flops: 0, bytes: 4 * lines * (terms + 1) }),
});

const sliceKernel = declareKernel({
  name: "exact_slices",
  bindings: {
    high: storage("read", "array<f32>"),
    low: storage("read", "array<f32>"),
    scales: storage("read", "array<f32>"),
    digits: storage("write", "array<f32>"),
  },
  params: { elements: "u32", columns: "u32", count: "u32" },
  constants: { BY_ROW: "bool", PAIR: "bool" },
  wgsl: /* wgsl */ `
fn element(at: u32) {
  let scale = scales[select(at % params.columns, at / params.columns, BY_ROW)];
  // Exact, because the scale is a power of two.
  let inverse = bitcast<f32>((254u << 23u) - bitcast<u32>(scale));
  var a = high[at] * inverse;
  var b = 0.0;
  if (PAIR) { b = low[at] * inverse; }
  for (var i = 0u; i < params.count; i++) {
    a *= ${2 ** sliceBits}.0;
    b *= ${2 ** sliceBits}.0;
    // The rounding mode of round() does not matter: the remainder goes to the next slice.
    let q = round(a + b);
    digits[at + i * params.elements] = q;
    a -= q;
  }
}
${flatWgsl("params.elements")}`,
  grid: ({ elements }) => flatGrid(elements),
  cost: ({ elements, count }) => ({ flops: 4 * elements * count, bytes: 4 * elements * (1 + count) }),
});

/**
 * Splits a matrix into slices, as the left factor of a product (`along: "rows"`) or the right one
 * (`along: "columns"`).
 *
 * `count` slices keep 9 · count − 1 bits below the largest element of the row or column. An element
 * keeps all 24 bits of f32 if it is at least 2^(25 − 9 · count) of the largest one.
 */
export function slices(x: Tensor | Pair, options: { along: "rows" | "columns"; count: number }): Sliced {
  const { along, count } = options;
  const [high, low] = x instanceof Tensor ? [x, undefined] : [x.high, x.low];
  const [rows, columns] = high.dims(2);
  const byRow = along === "rows";
  return high.gpu.scope(() => {
    const scales = Tensor.empty(high.gpu, [byRow ? rows : columns]);
    const digits = Tensor.empty(high.gpu, [count * rows, columns]);
    scaleKernel.run(
      high.gpu,
      { x: high, scales },
      byRow
        ? { lines: rows, line_stride: columns, terms: columns, term_stride: 1 }
        : { lines: columns, line_stride: 1, terms: rows, term_stride: columns },
    );
    sliceKernel.run(
      high.gpu,
      { high, low: low ?? high, scales, digits },
      { elements: rows * columns, columns, count },
      {
        BY_ROW: byRow,
        PAIR: low !== undefined,
      },
    );
    const dispose = () => [digits, scales].forEach((tensor) => tensor[Symbol.dispose]());
    return { digits, scales, along, count, rows, columns, [Symbol.dispose]: dispose };
  });
}
