import { type Cost, declareKernel, spread } from "../../engine/kernel/kernel.ts";
import { each, eachInLine, fmas } from "../wgsl/text.ts";
import { conv3x3Params, convBindings, convConstantTypes, convCost, convEpilogueWgsl } from "./epilogue.ts";
import { type Inputs, inputsOf, suffixed } from "./inputs3x3.ts";
import { edgeInputs, neighborsWgsl } from "./neighbors.ts";

/** Adjacent outputs of a lane: a strip. */
const outputs = 8;

/**
 * Input channels of a block. With more, there are fewer passes through y. With 32, the inputs of
 * eight pixels are 30 kB in all of 8 lanes together, or 26 kB of 16 with stride 2, which fits the
 * first cache. SwiftShader, which has 4 lanes, needs more than 20 GB to compile 32.
 */
const blockChannels = (lanes: number, stride: number): number => lanes === 8 && stride === 1 ? 32 : 16;

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
    ...conv3x3Params,
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

interface Constants {
  readonly LANES: number;
  /** Weights per access: 4 or 8. */
  readonly W_WIDTH: number;
  readonly STRIDE: number;
  /** Padding at the top and left. */
  readonly PAD: number;
}

/** What the parts of the text depend on. */
interface Context {
  readonly lanes: number;
  readonly stride: number;
  readonly pad: number;
  readonly inputs: Inputs;
  /** Names of the inputs' variables. */
  readonly names: readonly string[];
  /** Input channels of a block. */
  readonly channels: number;
  readonly filter: Filter;
}

/**
 * The weights of an output channel for a block of input channels, in units of one access. The
 * subgroup loads unit u by lane u % lanes, with load ⌊u / lanes⌋.
 */
interface Filter {
  /** Vec4 of a unit: 1 or 2. */
  readonly unitVec4: number;
  /** Units of a kernel row. */
  readonly kernelRowUnits: number;
  readonly units: number;
  /** Loads of a lane. */
  readonly loads: number;
}

function filterOf(lanes: number, channels: number, unitVec4: number): Filter {
  const kernelRowUnits = channels / 4 * 3 / unitVec4, units = 3 * kernelRowUnits;
  return { unitVec4, kernelRowUnits, units, loads: Math.ceil(units / lanes) };
}

/**
 * The entry point. Names in the generated text:
 *
 * - A strip is eight adjacent pixels of an image row: `strip` the lane's number, `own` the same,
 *   clamped to the last one; `batch`, `line` and `column` its place.
 * - m{ky}_{j} and the like are the inputs of kernel row ky and channel j of the block.
 * - s0 and s1 are the sums of four pixels.
 * - t0, t1, … are what the lane's loads of a filter brought, and next0, next1, … the same of the
 *   next output channel. a{kx} are the weights of four input channels.
 */
function conv3x3Wgsl({ LANES: lanes, W_WIDTH: weightWidth, STRIDE: stride, PAD: pad }: Constants): string {
  const inputs = inputsOf(outputs, stride, pad), names = Object.keys(inputs.types);
  const channels = blockChannels(lanes, stride), filter = filterOf(lanes, channels, weightWidth / 4);
  const c: Context = { lanes, stride, pad, inputs, names, channels, filter };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  own_lane = lane;
  ${placeStrip(c)}
  ${placeRows(c)}
  // Counts from a number that depends on the workgroup: see gemm/tile.ts.
  let first_channel = group.y * params.in_channels;
  let end_channel = first_channel + params.in_channels;
  for (var at = first_channel; at < end_channel; at += ${channels}u) {
    let first = at - first_channel;
    ${loadInputs(c)}
    let is_first = first == 0u;
    let is_last = at + ${channels}u >= end_channel;
    ${placeFilter(c)}
    // The weights of an output channel are loaded while the one before is computed.
    ${
    each(filter.loads, (i) =>
      `var next${i}: ${filter.unitVec4 === 2 ? "mat2x4f" : "vec4f"}; ${loadFilter(c, i, "first_row")}`)
  }
    for (var at_row = first_row; at_row < end_row; at_row += bias_rows) {
      let lane_row = min(at_row + lane / images, params.m - 1u);
      let lane_bias = biases(min(first_image + lane % images, params.batch - 1u), lane_row);
      for (var row = at_row; row < min(at_row + bias_rows, end_row); row++) {
        let row_after = min(row + 1u, end_row - 1u);
        ${each(filter.loads, (i) => `let t${i} = next${i}; ${loadFilter(c, i, "row_after")}`)}
        ${startSum}
        ${each(3, (ky) => each(channels / 4, (quad) => addProducts(c, ky, quad)))}
        ${store}
      }
    }
  }
}`;
}

/** The lane's strip, and the places of the inputs at, left and right of it. */
const placeStrip = ({ lanes, stride }: Context) => /* wgsl */ `
  let strips = params.n / ${outputs}u; // per image
  let last_strip = params.batch * strips - 1u;
  let first_strip = (group.x + group.z * groups.x) * ${lanes}u;
  let strip = first_strip + lane;
  // Lanes past the end repeat the last strip, because all lanes must take part in broadcasts.
  let own = min(strip, last_strip);
  let batch = own / strips;
  let pixel = own % strips * ${outputs}u;
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
  let in_right = column + ${outputs}u < params.width;`;

/** The output channels of the workgroup, and how its lanes load their biases and weights. */
const placeRows = ({ lanes, filter }: Context) => /* wgsl */ `
  // The lanes load the biases of several output channels at once, one for each image.
  let first_image = first_strip / strips;
  let images = min(first_strip + ${lanes - 1}u, last_strip) / strips - first_image + 1u;
  let bias_rows = ${lanes}u / images;
  let first_row = group.y * params.tile_rows;
  let end_row = min(first_row + params.tile_rows, params.m);
  let kernel_row = params.weight_kernel_row / ${filter.unitVec4}u; // of weights, in units`;

/**
 * The inputs of the block, for all three kernel rows. The loads of an image row are in the text
 * once: with each, the rows before move up.
 */
const loadInputs = ({ lanes, stride, pad, inputs, names, channels }: Context) => /* wgsl */ `
    ${
  each(3, (ky) => each(channels, (j) => names.map((name) => `var ${name}${ky}_${j}: ${inputs.types[name]};`).join(" ")))
}
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
    `{ let edge_plane = min(first + ${quad * 4}u + lane % 4u, last) * plane;
      ${edgeInputs(lanes).load}
      ${each(4, (j) => loadChannel({ lanes, inputs, names }, quad * 4 + j))} }`)
}
    }`;

/** Loads the inputs of channel j of the block, as those of the last kernel row. */
function loadChannel({ lanes, inputs, names }: Pick<Context, "lanes" | "inputs" | "names">, j: number): string {
  const edges = edgeInputs(lanes);
  return `{ let channel = first + ${j}u;
        let p = start + min(channel, last) * plane;
        let inside = in_row && channel <= last;
        let edge_left = ${edges.left(j % 4)};
        let edge_right = ${edges.right(j % 4)};
        ${inputs.load({ inside: "inside", inLeft: "inside && in_left", inRight: "inside && in_right" })}
        ${names.map((name) => `${name}2_${j} = ${name};`).join(" ")} }`;
}

/** The addresses of the units that the lane loads, in the first output channel's filter. */
const placeFilter = ({ lanes, filter: { unitVec4, kernelRowUnits, units, loads } }: Context) => /* wgsl */ `
    // Channels past the last one have inputs of 0, and need weights that are numbers.
    let last_unit = (((last - first) / 4u + 1u) * 3u + ${unitVec4 - 1}u) / ${unitVec4}u - 1u;
    ${
  each(loads, (i) =>
    `let unit${i} = min(${i * lanes}u + lane, ${units - 1}u);
    let filter${i} = (params.weight_start + first / 4u * 3u) / ${unitVec4}u +
      unit${i} / ${kernelRowUnits}u * kernel_row + min(unit${i} % ${kernelRowUnits}u, last_unit);`)
}
    let filter_row = params.weight_row / ${unitVec4}u;`;

/** Load i of a filter. In the last one, lanes without a unit are switched off, which costs less. */
function loadFilter({ lanes, filter: { units, loads } }: Context, i: number, row: string): string {
  const load = `next${i} = weight_at(filter${i} + ${row} * filter_row);`, lanesOfLast = units - (loads - 1) * lanes;
  return i < loads - 1 || lanesOfLast === lanes ? load : `if (lane < ${lanesOfLast}u) { ${load} }`;
}

/** The sum starts from the bias in the first block, and from y in the others. */
const startSum = /* wgsl */ `
        let bias = vec4f(select(0.0, subgroupShuffle(lane_bias, (row - at_row) * images + batch - first_image), is_first));
        let y_place = place(batch, row, pixel);
        var sum = mat2x4f(bias, bias);
        if (!is_first || params.accumulate == 1u) { sum += y_at(y_place / ${outputs}u); }
        var s0 = sum[0]; var s1 = sum[1];`;

/** The products of four channels and a kernel row. The sums take turns, channel by channel. */
function addProducts({ lanes, inputs: { taps }, filter }: Context, ky: number, quad: number): string {
  const products = (c: number, j: number) =>
    taps[c].map((operand, kx) => [`vec4f(a${kx}.${"xyzw"[j]})`, suffixed(operand, `${ky}_${quad * 4 + j}`)] as const);
  return `{ ${eachInLine(3, (kx) => `let a${kx} = ${weightOf(filter, lanes, { ky, vec4: quad * 3 + kx })};`)}
          ${eachInLine(4, (j) => eachInLine(taps.length, (c) => `s${c} = ${fmas(`s${c}`, products(c, j))};`))} }`;
}

/** Broadcasts a vec4 of a kernel row of the filter from the lane that loaded it. */
function weightOf(
  { unitVec4, kernelRowUnits }: Filter,
  lanes: number,
  { ky, vec4 }: { readonly ky: number; readonly vec4: number },
): string {
  const unit = ky * kernelRowUnits + Math.floor(vec4 / unitVec4);
  const value = `t${Math.floor(unit / lanes)}` + (unitVec4 === 2 ? `[${vec4 % 2}]` : "");
  return `subgroupBroadcast(${value}, ${unit % lanes}u)`;
}

/** The epilogue, after the last block of input channels; before it, y holds the sum. */
const store = /* wgsl */ `
        sum = mat2x4f(s0, s1);
        if (is_last) { sum = mat2x4f(activate(sum[0]), activate(sum[1])); }
        if (is_last && params.has_residual == 1u) { sum += residual_at(residual_place(y_place) / ${outputs}u); }
        if (strip == own) { y_put(y_place / ${outputs}u, sum); }`;
