import { type Cost, declareKernel, spread } from "../../engine/kernel/kernel.ts";
import { each, selected } from "../wgsl/text.ts";
import { convBindings, convConstantTypes, convCost, convEpilogueWgsl, convParams } from "./epilogue.ts";
import { neighborsWgsl } from "./neighbors.ts";

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
  params: { ...convParams, width: "u32", height: "u32", weight_kernel_row: "u32" },
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

function fewInputsWgsl({ LANES: lanes, ROWS: rows }: { readonly LANES: number; readonly ROWS: number }): string {
  // Names in the generated text. Of kernel row y and input channel j: m{y}{j} and n{y}{j} the
  // inputs at the lane's eight pixels, l{y}{j} and r{y}{j} the inputs to their left and right. Of
  // output channel `row`: a{row}_{tap} its weights, c{row}_{half} the sums of four pixels.
  //
  // The weights of an output channel (a filter) are 9 vec4 of four input channels, one for each
  // tap. A subgroup has more lanes than rows, so `parts` lanes share a filter: the lane with number
  // row + part · rows loads the taps from part · partLength on, as t0, t1, …, and broadcasts them.
  const parts = Math.min(9, Math.floor(lanes / rows)), partLength = Math.ceil(9 / parts);
  const weightOf = (row: number, tap: number) => {
    const part = Math.floor(tap / partLength);
    return `subgroupBroadcast(t${tap - part * partLength}, ${row + part * rows}u)`;
  };
  const operand = (tap: number, j: number, half: number) => {
    const [l, m, n, r] = ["l", "m", "n", "r"].map((name) => `${name}${Math.floor(tap / 3)}${j}`);
    return [
      [`vec4f(${l}, ${m}.xyz)`, m, `vec4f(${m}.yzw, ${n}.x)`],
      [`vec4f(${m}.w, ${n}.xyz)`, n, `vec4f(${n}.yzw, ${r})`],
    ][half][tap % 3];
  };
  /** The bias and all products of four outputs, in one chain of fma. */
  const chain = (row: number, half: number) => {
    let sum = `vec4f(subgroupBroadcast(bias, ${row}u))`;
    for (let tap = 0; tap < 9; tap++) {
      for (let j = 0; j < 4; j++) sum = `fma(vec4f(a${row}_${tap}.${"xyzw"[j]}), ${operand(tap, j, half)}, ${sum})`;
    }
    return `let c${row}_${half} = ${sum};`;
  };
  const hasBoth = lanes >= 8; // whether one load brings the inputs beside both ends
  const endRight = (j: number) =>
    hasBoth ? `subgroupBroadcast(ends, ${4 + j}u)` : `subgroupBroadcast(ends_right, ${j}u)`;
  /** Loads the inputs of kernel row y. */
  const loads = (y: number) => `
  ${each(4, (j) => `var l${y}${j}: f32; var m${y}${j}: vec4f; var n${y}${j}: vec4f; var r${y}${j}: f32;`, " ")}
  {
    let inside = line + ${y}u >= 1u && line + ${y}u <= params.height;
    let start = image + (clamp(line + ${y}u, 1u, params.height) - 1u) * params.width;
    let end_left = subgroupBroadcast(start + max(column, 1u) - 1u, 0u);
    let end_right = subgroupBroadcast(start + min(column + 8u, params.width - 1u), ${lanes - 1}u);
    ${
    hasBoth
      ? "let ends = x_element_at(end_plane + select(end_left, end_right, lane % 8u >= 4u));"
      : "let ends = x_element_at(end_plane + end_left); let ends_right = x_element_at(end_plane + end_right);"
  }
    ${
    each(4, (j) =>
      `{ let all = x_at((start + min(${j}u, last) * plane + column) / 8u);
      m${y}${j} = select(vec4f(), all[0], inside); n${y}${j} = select(vec4f(), all[1], inside);
      l${y}${j} = select(0.0, before(all[1].w, subgroupBroadcast(ends, ${j}u)), inside && column > 0u);
      r${y}${j} = select(0.0, after(all[0].x, ${endRight(j)}), inside && column + 8u < params.width); }`)
  }
  }`;
  const sum = (half: number) => selected((i) => `c${i}_${half}`, { count: rows, index: "i" });
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  own_lane = lane;
  let pieces = params.n / 8u; // per image
  let piece = (group.x + group.z * groups.x) * ${lanes}u + lane;
  // Lanes past the end repeat the last piece, because all lanes must take part in broadcasts.
  let own = min(piece, params.batch * pieces - 1u);
  let batch = own / pieces;
  let pixel = own % pieces * 8u;
  let line = pixel / params.width;
  let column = pixel % params.width;
  let image = params.x_start + batch * params.x_batch;
  let plane = params.height * params.width;
  let last = params.in_channels - 1u;
  // A lane loads the input beside the subgroup's ends of one channel.
  let end_plane = min(lane % 4u, last) * plane;
  ${each(3, loads)}
  let part = min(lane / ${rows}u, ${parts - 1}u);
  ${
    each(partLength, (i) =>
      `let tap${i} = min(part * ${partLength}u + ${i}u, 8u);
  let w${i} = params.weight_start + tap${i} / 3u * params.weight_kernel_row + tap${i} % 3u;`)
  }
  // Counts from a number that depends on the workgroup: see tile.ts.
  let first_row = group.x * params.m;
  let end_row = first_row + params.m;
  for (var at = first_row; at < end_row; at += ${rows}u) {
    let row = at - first_row;
    let filter_row = min(row + lane % ${rows}u, params.m - 1u);
    let bias = row_bias(filter_row);
    ${each(partLength, (i) => `let t${i} = weight_at(w${i} + filter_row * params.weight_row);`)}
    ${
    each(rows, (row) =>
      `${each(9, (tap) => `let a${row}_${tap} = ${weightOf(row, tap)};`, " ")}
    ${each(2, (half) => chain(row, half))}`)
  }
    for (var at_row = at; at_row < min(at + ${rows}u, end_row); at_row++) {
      let i = at_row - at;
      if (piece == own) { tile_put8(batch, row + i, pixel, mat2x4f(${sum(0)}, ${sum(1)})); }
    }
  }
}`;
}
