import { declareKernel, input, output, spread } from "../engine/kernel/kernel.ts";
import { Tensor } from "../engine/tensor.ts";
import { reduction, reductionConstantNames, reductionWgsl } from "./reduction.ts";
import { bindFrom, stretches } from "./windows.ts";

/**
 * One workgroup a row. The first pass keeps, in each lane, the largest number so far and the sum of exponentials below it, scaled down whenever
 * a larger number comes (1805.02867); the second writes exp(x − largest) / sum. So x is read twice, not three times, and no exponential
 * overflows.
 */
const softmaxKernel = declareKernel({
  name: "softmax",
  bindings: { x: input("X_LANES"), y: output("X_LANES") },
  params: {
    rows: "u32",
    columns: "u32",
    x_start: "u32",
    y_start: "u32",
    scale: "f32",
    block_rows: "u32",
    first_row: "u32",
  },
  constants: ["X_LANES", "number", "CAUSAL", ...reductionConstantNames],
  extensions: ["subgroups"],
  wgsl: (constants) =>
    reductionWgsl(constants) + (constants.X_LANES === 4
      ? /* wgsl */ `
fn largest(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn total(v: vec4f) -> f32 { return v.x + v.y + v.z + v.w; }
fn seen_of(i: u32, seen: u32) -> vec4<bool> { return vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) < vec4u(seen); }`
      : /* wgsl */ `
fn largest(v: f32) -> f32 { return v; }
fn total(v: f32) -> f32 { return v; }
fn seen_of(i: u32, seen: u32) -> bool { return i < seen; }`) +
    /* wgsl */ `
const LOWEST = -3.4028234e38; // not -inf, since inf - inf is no number
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  var seen = params.columns * X_LANES;
  if (CAUSAL) { seen = min(seen, (params.first_row + row) % params.block_rows + 1u); }
  let end = (seen + X_LANES - 1u) / X_LANES;
  let x_row = params.x_start + row * params.columns;
  var top = LOWEST;
  var sum = 0.0;
  for (var i = lane; i < end; i += LANES) {
    let v = select(number(LOWEST), x_at(x_row + i) * params.scale, seen_of(i, seen));
    let higher = max(top, largest(v));
    sum = fma(sum, exp(top - higher), total(select(number(), exp(v - higher), seen_of(i, seen))));
    top = higher;
  }
  let row_top = max_over_lanes(top, lane);
  let factor = 1.0 / sum_over_lanes(sum * exp(top - row_top), lane);
  for (var i = lane; i < params.columns; i += LANES) {
    var value = number();
    if (i < end) { value = select(number(), exp(x_at(x_row + i) * params.scale - row_top) * factor, seen_of(i, seen)); }
    y_put(params.y_start + row * params.columns + i, value);
  }
}`,
  grid: ({ rows }) => spread(rows),
  cost: ({ rows, columns }, { X_LANES }) => ({
    flops: 8 * rows * columns * (X_LANES as number),
    bytes: 8 * rows * columns * (X_LANES as number),
  }),
});

/** Options of {@linkcode softmax}. */
export interface SoftmaxOptions {
  /** Factor of x before the exponential. Default: 1. */
  readonly scale?: number;
  /** Whether row t of each [T, N] block sees columns 0 … t only; the others become 0. Default: false. */
  readonly causal?: boolean;
}

/**
 * softmax(scale · x) over the last axis: yₙ = exp(scale · xₙ) / Σₘ exp(scale · xₘ).
 *
 * @param x [..., N]; with `causal`, [..., T, N]
 * @returns as x
 */
export function softmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  const { gpu } = x;
  const { scale = 1, causal = false } = options;
  const width = x.shape.at(-1) ?? 1;
  const y = Tensor.empty(gpu, x.shape);
  if (y.size === 0) return y;
  const lanes = width % 4 === 0 ? 4 : 1;
  for (const { first, count } of stretches(gpu, x.size / width, width * 4)) {
    const source = bindFrom(x, first * width, count * width), target = bindFrom(y, first * width, count * width);
    softmaxKernel.run(
      gpu,
      { x: source.window, y: target.window },
      {
        rows: count,
        columns: width / lanes,
        x_start: source.start / lanes,
        y_start: target.start / lanes,
        scale,
        block_rows: x.shape.at(-2) ?? 1,
        first_row: first,
      },
      { X_LANES: lanes, number: lanes === 4 ? "vec4f" : "f32", CAUSAL: causal, ...reduction(gpu) },
    );
  }
  return y;
}
