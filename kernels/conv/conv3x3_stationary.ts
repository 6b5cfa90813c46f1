import { type Cost, declareKernel, spread } from "../../engine/kernel/kernel.ts";
import { each } from "../wgsl/text.ts";
import { convBindings, convConstantTypes, convCost, convEpilogueWgsl, convParams } from "./epilogue.ts";
import { inputsOf } from "./inputs3x3.ts";
import { neighborsWgsl } from "./neighbors.ts";

/**
 * The 3×3 convolution of conv3x3.ts with the loops inside out, for large ones: it keeps inputs, and
 * streams weights.
 *
 * A workgroup is one subgroup. A lane owns 8 adjacent pixels of `tile_rows` output channels.
 * For each block of input channels, it loads the inputs of its pixels, for all nine taps, and keeps
 * them. Then it passes through its output channels: lanes load the weights of an output
 * channel once per subgroup, `subgroupBroadcast` distributes them, and y holds the sums over the
 * blocks before. So no sums are carried through a loop. The inputs beside a lane's own come from
 * its neighbors by `subgroupShuffle`, and those beside the subgroup's ends from one load for four
 * channels.
 *
 * With `upsample_shift` = 1 the input is upsampled to twice its size first, and the inputs of
 * adjacent pixels come from half as many source pixels. Measurements: docs/tuning.md.
 */
export const conv3x3StationaryKernel = declareKernel({
  name: "conv2d_3x3_stationary",
  bindings: convBindings,
  params: {
    ...convParams,
    width: "u32",
    height: "u32",
    weight_kernel_row: "u32",
    upsample_shift: "u32",
    tile_rows: "u32", // output channels per workgroup
  },
  constants: { ...convConstantTypes, LANES: "u32", STRIDE: "u32", PAD: "u32" },
  extensions: ["subgroups"],
  wgsl: (constants) => convEpilogueWgsl(constants) + neighborsWgsl(constants.LANES) + conv3x3Wgsl(constants),
  grid: ({ m, n, batch, tile_rows }, { LANES }) => {
    const [x, z] = spread(Math.ceil(batch * n / outputs / LANES));
    return [x, Math.ceil(m / tile_rows), z];
  },
  cost: (params): Cost => convCost(params),
});

/** Adjacent outputs of a lane. */
const outputs = 8;
/**
 * Input channels of a block. With more, there are fewer passes through y. With 32, the inputs of
 * eight pixels are 30 kB in all of 8 lanes together, or 26 kB of 16 with stride 2, which fits the
 * first cache. SwiftShader, which has 4 lanes, needs more than 20 GB to compile 32.
 */
const blockChannels = (lanes: number, stride: number): number => lanes === 8 && stride === 1 ? 32 : 16;

interface Constants {
  readonly LANES: number;
  /** Weights per access: 4 or 8. */
  readonly W_WIDTH: number;
  readonly STRIDE: number;
  /** Padding at the top and left. */
  readonly PAD: number;
}

function conv3x3Wgsl(
  { LANES: lanes, W_WIDTH: weightWidth, STRIDE: stride, PAD: pad }: Constants,
): string {
  // Names in the generated text. m{ky}_{j} and the like are the inputs of kernel row ky and channel
  // j of the block, s0 and s1 the sums of four pixels. A filter is the weights of an output channel
  // for the block, in `units` accesses, `kernelRowUnits` for each kernel row. The subgroup loads it
  // in `loads` loads: unit u by lane u % lanes, with load ⌊u / lanes⌋. t0, t1, … are what they
  // loaded, and next0, next1, … the same of the next output channel. a{kx} are the weights of four
  // input channels.
  const { types, load, taps } = inputsOf(outputs, stride, pad), channels = blockChannels(lanes, stride);
  const names = Object.keys(types);
  const unitVec4 = weightWidth / 4, kernelRowUnits = channels / 4 * 3 / unitVec4, units = 3 * kernelRowUnits;
  const loads = Math.ceil(units / lanes), lanesOfLast = units - (loads - 1) * lanes;
  const weight = (ky: number, quad: number, kx: number) => {
    const at = quad * 3 + kx, unit = ky * kernelRowUnits + Math.floor(at / unitVec4);
    const value = `t${Math.floor(unit / lanes)}` + (unitVec4 === 2 ? `[${at % 2}]` : "");
    return `subgroupBroadcast(${value}, ${unit % lanes}u)`;
  };
  const weightType = unitVec4 === 2 ? "mat2x4f" : "vec4f";
  /** Loads a filter. In the last load, lanes without a part are switched off, which costs less. */
  const filterLoad = (i: number, row: string) => {
    const load = `next${i} = weight_at(filter${i} + ${row} * filter_row);`;
    return i < loads - 1 || lanesOfLast === lanes ? load : `if (lane < ${lanesOfLast}u) { ${load} }`;
  };
  const operand = (text: string, ky: number, j: number) =>
    text.replaceAll(/\b[elmnoqr]\b/g, (name) => `${name}${ky}_${j}`);
  /** The products of four channels and a kernel row. The sums take turns, channel by channel. */
  const products = (ky: number, quad: number) =>
    `{ ${each(3, (kx) => `let a${kx} = ${weight(ky, quad, kx)};`, " ")}
          ${
      each(4, (j) =>
        each(taps.length, (c) => {
          let sum = `s${c}`;
          for (let kx = 0; kx < 3; kx++) {
            sum = `fma(vec4f(a${kx}.${"xyzw"[j]}), ${operand(taps[c][kx], ky, quad * 4 + j)}, ${sum})`;
          }
          return `s${c} = ${sum};`;
        }, " "))
    } }`;
  const hasBoth = lanes >= 8; // whether one load brings the inputs beside both ends
  /** Loads the inputs of channel j of the block in the last of the three lines. */
  const inputs = (j: number) =>
    `{ let channel = first + ${j}u;
        let p = start + min(channel, last) * plane;
        let inside = in_row && channel <= last;
        let edge_left = subgroupBroadcast(edges, ${j % 4}u);
        let edge_right = subgroupBroadcast(${hasBoth ? `edges, ${j % 4 + 4}u` : `edges_right, ${j % 4}u`});
        ${load({ inside: "inside", inLeft: "inside && in_left", inRight: "inside && in_right" })}
        ${names.map((name) => `${name}2_${j} = ${name};`).join(" ")} }`;
  const edges = (quad: number) =>
    `let edge_plane = min(first + ${quad * 4}u + lane % 4u, last) * plane;
      ${
      hasBoth
        ? "let edges = x_element_at(edge_plane + select(end_left, end_right, lane % 8u >= 4u));"
        : "let edges = x_element_at(edge_plane + end_left); let edges_right = x_element_at(edge_plane + end_right);"
    }`;
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  own_lane = lane;
  let pieces = params.n / ${outputs}u; // per image
  let last_piece = params.batch * pieces - 1u;
  let first_piece = (group.x + group.z * groups.x) * ${lanes}u;
  let piece = first_piece + lane;
  // Lanes past the end repeat the last piece, because all lanes must take part in broadcasts.
  let own = min(piece, last_piece);
  let batch = own / pieces;
  let pixel = own % pieces * ${outputs}u;
  let line = pixel / params.width;
  let column = pixel % params.width;
  let is_upsampled = params.upsample_shift == 1u;
  let source_width = ${stride === 1 ? "params.width >> params.upsample_shift" : `params.width * ${stride}u`};
  let plane = (params.height >> params.upsample_shift) * source_width;
  let last = params.in_channels - 1u;
  let x = column * ${stride}u;
  let left = (max(x, 1u) - 1u) >> params.upsample_shift;
  let middle = x >> params.upsample_shift;
  let odd = is_upsampled && middle % ${outputs}u != 0u;
  let even = is_upsampled && middle % ${outputs}u == 0u;
  let right = min(x + ${outputs * stride}u, params.width * ${stride}u - 1u) >> params.upsample_shift;
  let in_left = column > 0u;
  let in_right = column + ${outputs}u < params.width;
  // The lanes load the biases of several output channels at once, one for each image.
  let first_image = first_piece / pieces;
  let images = min(first_piece + ${lanes - 1}u, last_piece) / pieces - first_image + 1u;
  let bias_rows = ${lanes}u / images;
  let first_row = group.y * params.tile_rows;
  let end_row = min(first_row + params.tile_rows, params.m);
  let kernel_row = params.weight_kernel_row / ${unitVec4}u;
  // Counts from a number that depends on the workgroup: see tile.ts.
  let first_channel = group.y * params.in_channels;
  let end_channel = first_channel + params.in_channels;
  for (var at = first_channel; at < end_channel; at += ${channels}u) {
    let first = at - first_channel;
    ${each(3, (ky) => each(channels, (j) => names.map((name) => `var ${name}${ky}_${j}: ${types[name]};`).join(" ")))}
    // The loads of a line are in the text once, and the lines before move up.
    for (var at_line = first_row; at_line < first_row + 3u; at_line++) {
      ${
    each(2, (ky) => each(channels, (j) => names.map((name) => `${name}${ky}_${j} = ${name}${ky + 1}_${j};`).join(" ")))
  }
      let y = line * ${stride}u + (at_line - first_row);
      let in_row = y >= ${pad}u && y < params.height + ${pad}u;
      let above = (clamp(y, ${pad}u, params.height + ${pad}u - 1u) - ${pad}u) >> params.upsample_shift;
      let start = params.x_start + batch * params.x_batch + above * source_width;
      let end_left = subgroupBroadcast(start + left, 0u);
      let end_right = subgroupBroadcast(start + right, ${lanes - 1}u);
      ${
    each(channels / 4, (quad) =>
      `{ ${edges(quad)}
      ${each(4, (j) => inputs(quad * 4 + j))} }`)
  }
    }
    let is_first = first == 0u;
    let is_last = at + ${channels}u >= end_channel;
    // Channels past the last one have inputs of 0, and need weights that are numbers.
    let last_unit = (((last - first) / 4u + 1u) * 3u + ${unitVec4 - 1}u) / ${unitVec4}u - 1u;
    ${
    each(loads, (i) =>
      `let unit${i} = min(${i * lanes}u + lane, ${units - 1}u);
    // Channels past the last one have inputs of 0, and need weights that are numbers.
    let filter${i} = (params.weight_start + first / 4u * 3u) / ${unitVec4}u +
      unit${i} / ${kernelRowUnits}u * kernel_row + min(unit${i} % ${kernelRowUnits}u, last_unit);`)
  }
    // The weights of an output channel are loaded while the one before is computed.
    let filter_row = params.weight_row / ${unitVec4}u;
    ${each(loads, (i) => `var next${i}: ${weightType}; ${filterLoad(i, "first_row")}`)}
    for (var at_row = first_row; at_row < end_row; at_row += bias_rows) {
      let lane_row = min(at_row + lane / images, params.m - 1u);
      let lane_bias = biases(min(first_image + lane % images, params.batch - 1u), lane_row);
      for (var row = at_row; row < min(at_row + bias_rows, end_row); row++) {
        let row_after = min(row + 1u, end_row - 1u);
        ${each(loads, (i) => `let t${i} = next${i}; ${filterLoad(i, "row_after")}`)}
        let bias = vec4f(select(0.0, subgroupShuffle(lane_bias, (row - at_row) * images + batch - first_image), is_first));
        let y_place = place(batch, row, pixel);
        var sum = mat2x4f(bias, bias);
        if (!is_first || params.accumulate == 1u) { sum += y_at(y_place / ${outputs}u); }
        var s0 = sum[0]; var s1 = sum[1];
        ${each(3, (ky) => each(channels / 4, (quad) => products(ky, quad)))}
        sum = mat2x4f(s0, s1);
        if (is_last) { sum = mat2x4f(activate(sum[0]), activate(sum[1])); }
        if (is_last && params.has_residual == 1u) { sum += residual_at(residual_place(y_place) / ${outputs}u); }
        if (piece == own) { y_put(y_place / ${outputs}u, sum); }
      }
    }
  }
}`;
}
