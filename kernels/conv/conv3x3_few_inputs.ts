import { type Cost, declareKernel, spread } from "../../engine/kernel/kernel.ts";
import { each, eachInLine, fmas, selected } from "../wgsl/text.ts";
import { conv3x3Params, convBindings, convConstantTypes, convCost, convEpilogueWgsl } from "./epilogue.ts";
import { inputsOf, suffixed } from "./inputs3x3.ts";
import { edgeInputs, neighborsWgsl } from "./neighbors.ts";
import { sharedFilters } from "./shared_filter.ts";

/**
 * 3×3 convolution of up to four input channels for software devices with subgroups: stride 1,
 * padding 1, no upsampling, an image width that is a multiple of 8, and nothing to add but a bias.
 *
 * An output has few inputs, so a lane loads those of its eight adjacent pixels once and keeps them.
 * Then it computes all output channels, ROWS at a time. Measurements: docs/tuning.md.
 */
export const fewInputsKernel = declareKernel({
  name: "conv2d_3x3_few_inputs",
  bindings: convBindings,
  params: conv3x3Params,
  constants: { ...convConstantTypes, LANES: "u32", ROWS: "u32" },
  extensions: ["subgroups"],
  wgsl: (constants) => convEpilogueWgsl(constants) + neighborsWgsl(constants.LANES) + fewInputsWgsl(constants),
  grid: ({ n, batch }, { LANES }) => {
    const [x, z] = spread(Math.ceil(batch * n / 8 / LANES));
    return [x, 1, z];
  },
  cost: (params): Cost => convCost(params),
});

/** The tile on subgroups of `lanes`. More rows mean longer code and no fewer loads per product. */
export function fewInputsTile(lanes: number): { ROWS: number } {
  return { ROWS: Math.min(4, lanes) };
}

/**
 * The entry point. Names in the generated text:
 *
 * - A strip is eight adjacent pixels of an image row: `strip` the lane's number, `own` the same,
 *   clamped to the last one; `batch`, `line` and `column` its place.
 * - Of kernel row y and input channel j: m{y}{j} and n{y}{j} the inputs at the strip's pixels,
 *   l{y}{j} and r{y}{j} the inputs to their left and right.
 * - Of output channel `row`: a{row}_{tap} its weights, c{row}_{half} the sums of four pixels.
 */
function fewInputsWgsl({ LANES: lanes, ROWS: rows }: { readonly LANES: number; readonly ROWS: number }): string {
  const filters = sharedFilters(lanes, rows);
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  own_lane = lane;
  ${placeStrip(lanes)}
  ${each(3, (y) => loadInputs(lanes, y))}
  ${filters.addresses("params.weight_start")}
  // Counts from a number that depends on the workgroup: see gemm/tile.ts.
  let first_row = group.x * params.m;
  let end_row = first_row + params.m;
  for (var at = first_row; at < end_row; at += ${rows}u) {
    let row = at - first_row;
    let filter_row = min(row + lane % ${rows}u, params.m - 1u);
    let bias = row_bias(filter_row);
    ${each(filters.length, (i) => `let t${i} = weight_at(w${i} + filter_row * params.weight_row);`)}
    ${
    each(rows, (row) =>
      `${eachInLine(9, (tap) => `let a${row}_${tap} = ${filters.weight(row, tap)};`)}
    ${each(2, (half) => `let c${row}_${half} = ${sum(row, half)};`)}`)
  }
    ${store(rows)}
  }
}`;
}

/** The lane's strip, and the plane of which it loads the input beside the subgroup's ends. */
const placeStrip = (lanes: number) => /* wgsl */ `
  let strips = params.n / 8u; // per image
  let strip = (group.x + group.z * groups.x) * ${lanes}u + lane;
  // Lanes past the end repeat the last strip, because all lanes must take part in broadcasts.
  let own = min(strip, params.batch * strips - 1u);
  let batch = own / strips;
  let pixel = own % strips * 8u;
  let line = pixel / params.width;
  let column = pixel % params.width;
  let image = params.x_start + batch * params.x_batch;
  let plane = params.height * params.width;
  let last = params.in_channels - 1u;
  let edge_plane = min(lane % 4u, last) * plane;`;

/** Loads the inputs of kernel row y. The block limits the scope of the other names. */
function loadInputs(lanes: number, y: number): string {
  const edges = edgeInputs(lanes);
  return /* wgsl */ `
  ${eachInLine(4, (j) => `var l${y}${j}: f32; var m${y}${j}: vec4f; var n${y}${j}: vec4f; var r${y}${j}: f32;`)}
  {
    let inside = line + ${y}u >= 1u && line + ${y}u <= params.height;
    let start = image + (clamp(line + ${y}u, 1u, params.height) - 1u) * params.width;
    let end_left = subgroupBroadcast(start + max(column, 1u) - 1u, 0u);
    let end_right = subgroupBroadcast(start + min(column + 8u, params.width - 1u), ${lanes - 1}u);
    ${edges.load}
    ${
    each(4, (j) =>
      `{ let all = x_at((start + min(${j}u, last) * plane + column) / 8u);
      m${y}${j} = select(vec4f(), all[0], inside); n${y}${j} = select(vec4f(), all[1], inside);
      l${y}${j} = select(0.0, before(all[1].w, ${edges.left(j)}), inside && column > 0u);
      r${y}${j} = select(0.0, after(all[0].x, ${edges.right(j)}), inside && column + 8u < params.width); }`)
  }
  }`;
}

/** The bias and all products of four outputs, in one chain of fma. */
function sum(row: number, half: number): string {
  const operands = inputsOf(8, 1, 1).taps[half];
  const products = Array.from({ length: 9 }, (_, tap) =>
    [..."xyzw"].map((channel, j) => {
      const operand = suffixed(operands[tap % 3], `${Math.floor(tap / 3)}${j}`);
      return [`vec4f(a${row}_${tap}.${channel})`, operand] as const;
    }));
  return fmas(`vec4f(subgroupBroadcast(bias, ${row}u))`, products.flat());
}

/** The epilogue of the rows from `row` on: a loop that selects the sums of one. */
function store(rows: number): string {
  const ofRow = (half: number) => selected((i) => `c${i}_${half}`, { count: rows, index: "i" });
  return /* wgsl */ `
    for (var at_row = at; at_row < min(at + ${rows}u, end_row); at_row++) {
      let i = at_row - at;
      if (strip == own) { tile_put8(batch, row + i, pixel, mat2x4f(${ofRow(0)}, ${ofRow(1)})); }
    }`;
}
