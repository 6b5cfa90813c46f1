import { type Cost, declareKernel, spread } from "../../engine/kernel/kernel.ts";
import { put } from "../gemm/tile.ts";
import { each, eachInLine, fmas, selected } from "../wgsl/text.ts";
import { conv3x3Params, convBindings, convConstantTypes, convCost, convEpilogueWgsl } from "./epilogue.ts";
import { inputsOf, suffixed } from "./inputs3x3.ts";
import { neighborsWgsl } from "./neighbors.ts";
import { type SharedFilters, sharedFilters } from "./shared_filter.ts";

/**
 * 3×3 convolution with few output channels for software devices with subgroups: stride 1, padding
 * 1, no upsampling, and an image width that is a multiple of 8.
 *
 * With few output channels, loads of inputs take most of the time. So a lane owns ROWS output
 * channels × LINES image rows × 8 adjacent pixels. An input that it loads serves up to three image
 * rows, one for each kernel row, and the inputs beside its own come from the neighboring lanes.
 * Measurements: docs/tuning.md.
 */
export const fewOutputsKernel = declareKernel({
  name: "conv2d_3x3_few_outputs",
  bindings: convBindings,
  params: conv3x3Params,
  constants: { ...convConstantTypes, LANES: "u32", ROWS: "u32", LINES: "u32" },
  extensions: ["subgroups"],
  wgsl: (constants) => convEpilogueWgsl(constants) + neighborsWgsl(constants.LANES) + fewOutputsWgsl(constants),
  grid: ({ m, width, height, batch }, { LANES, ROWS, LINES }) => {
    const [x, z] = spread(Math.ceil(batch * Math.ceil(height / LINES) * (width / 8) / LANES));
    return [x, Math.ceil(m / ROWS), z];
  },
  cost: (params): Cost => convCost(params),
});

/** The tile for `m` output channels of images of `height`, on subgroups of `lanes`. */
export function fewOutputsTile(m: number, height: number, lanes: number): { ROWS: number; LINES: number } {
  // More lines share more inputs. A lane loads the neighbors of one of the LINES + 2 input lines.
  return { ROWS: Math.min(m, 4), LINES: Math.min(height >= 64 ? 6 : 4, lanes - 2) };
}

interface Constants {
  readonly LANES: number;
  readonly ROWS: number;
  readonly LINES: number;
}

/** What the parts of the text depend on. */
interface Context {
  readonly lanes: number;
  readonly rows: number;
  /** Image rows of a strip. */
  readonly lines: number;
  /** Image rows that these read. */
  readonly inputLines: number;
  readonly filters: SharedFilters;
}

/**
 * The entry point. Names in the generated text:
 *
 * - A strip is LINES image rows of eight adjacent pixels: `strip` the lane's number, `own` the
 *   same, clamped to the last one; `batch`, `first_line` and `column` its place.
 * - Of input line n: m{n} and n{n} the inputs at the strip's pixels, l{n} and r{n} the inputs to
 *   their left and right.
 * - Of output channel `row`: a{row}_{tap} its weights for the current channel, c{row}_{line}_{half}
 *   the sums of four pixels.
 */
function fewOutputsWgsl({ LANES: lanes, ROWS: rows, LINES: lines }: Constants): string {
  const filters = sharedFilters(lanes, rows);
  const c: Context = { lanes, rows, lines, inputLines: lines + 2, filters };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  own_lane = lane;
  ${placeStrip(c)}
  ${placeEnds(c)}
  ${startSums(c)}
  // Counts from a number that depends on the workgroup: see gemm/tile.ts.
  let first_channel = group.x * params.in_channels;
  let end_channel = first_channel + params.in_channels;
  for (var at = first_channel; at < end_channel; at += 4u) {
    var channel = at - first_channel;
    ${each(filters.length, (i) => `var t${i} = weight_at(w${i} + channel / 4u * 3u);`)}
    for (var j = at; j < at + 4u; j++) {
      ${loadEnds}
      // Component x holds the weights of the current channel: the vec4 are rotated after each.
      ${each(rows, (row) => eachInLine(9, (tap) => `let a${row}_${tap} = ${filters.weight(row, tap, ".x")};`))}
      ${each(c.inputLines, (n) => addInputLine(c, n))}
      channel++;
      ${eachInLine(filters.length, (i) => `t${i} = t${i}.yzwx;`)}
    }
  }
  // Never true, but the compiler must keep the loads of what was prefetched.
  if (params.width == 0u) { c0_0_0.x = prefetched; }
  ${store(c)}
}`;
}

/** The lane's rows and strip, and the places of the input lines. */
const placeStrip = ({ lanes, rows, lines, inputLines }: Context) => /* wgsl */ `
  let across = params.width / 8u;
  let strips = across * ((params.height + ${lines - 1}u) / ${lines}u); // per image
  let strip = (group.x + group.z * groups.x) * ${lanes}u + lane;
  let row = group.y * ${rows}u;
  // Lanes past the end repeat the last strip, because all lanes must take part in broadcasts.
  let own = min(strip, params.batch * strips - 1u);
  let batch = own / strips;
  let first_line = own % strips / across * ${lines}u;
  let column = own % across * 8u;
  let plane = params.height * params.width;
  let last = params.in_channels - 1u;
  let image = params.x_start + batch * params.x_batch;
  ${
  each(inputLines, (n) =>
    `let inside${n} = first_line + ${n}u >= 1u && first_line + ${n}u <= params.height;
  let at${n} = (clamp(first_line + ${n}u, 1u, params.height) - 1u) * params.width + column;`)
}`;

/** The places of the inputs beside the subgroup's ends: lane n loads those of input line n. */
const placeEnds = ({ lanes }: Context) => /* wgsl */ `
  let end_left = subgroupBroadcast(image, 0u) - image + max(subgroupBroadcast(column, 0u), 1u) - 1u +
    (clamp(subgroupBroadcast(first_line, 0u) + lane, 1u, params.height) - 1u) * params.width;
  let end_right = subgroupBroadcast(image, ${lanes - 1}u) - image +
    min(subgroupBroadcast(column, ${lanes - 1}u) + 8u, params.width - 1u) +
    (clamp(subgroupBroadcast(first_line, ${lanes - 1}u) + lane, 1u, params.height) - 1u) * params.width;
  var next_left = x_element_at(image + end_left);
  var next_right = x_element_at(image + end_right);
  var prefetched = 0.0;`;

/** The addresses of the weights that the lane loads, and the sums, which start from the biases. */
const startSums = ({ rows, lines, filters }: Context) => /* wgsl */ `
  let filter_row = min(row + lane % ${rows}u, params.m - 1u);
  ${filters.addresses("params.weight_start + filter_row * params.weight_row")}
  let bias = row_bias(filter_row);
  ${
  eachInLine(rows, (row) =>
    eachInLine(lines, (line) =>
      eachInLine(2, (half) =>
        `var c${row}_${line}_${half} = vec4f(subgroupBroadcast(bias, ${row}u));`)))
}`;

/**
 * The inputs beside the subgroup's ends. They are loaded one channel ahead, which brings cache
 * lines early: three of each input line.
 */
const loadEnds = /* wgsl */ `
      let p = image + min(channel, last) * plane;
      let ends_left = next_left;
      let ends_right = next_right;
      let next = image + min(channel + 1u, last) * plane;
      next_left = x_element_at(next + end_left);
      next_right = x_element_at(next + end_right);
      prefetched = x_element_at(next + end_left + 1u);`;

/**
 * Loads input line n and adds the products of the image row whose last input line it is. So loads,
 * which wait for memory, and arithmetic alternate.
 */
const addInputLine = ({ rows }: Context, n: number) =>
  `let all${n} = x_at((p + at${n}) / 8u);
      let m${n} = select(vec4f(), all${n}[0], inside${n});
      let n${n} = select(vec4f(), all${n}[1], inside${n});
      let l${n} = select(0.0, before(all${n}[1].w, subgroupBroadcast(ends_left, ${n}u)), inside${n} && column > 0u);
      let r${n} = select(0.0, after(all${n}[0].x, subgroupBroadcast(ends_right, ${n}u)), inside${n} && column + 8u < params.width);
      ${n < 2 ? "" : eachInLine(rows, (row) => eachInLine(2, (half) => addProducts(row, n - 2, half)))}`;

/** All nine products of a channel form one chain of fma, so the accumulator is written once. */
function addProducts(row: number, line: number, half: number): string {
  const sum = `c${row}_${line}_${half}`, operands = inputsOf(8, 1, 1).taps[half];
  const products = Array.from({ length: 9 }, (_, tap) => {
    const operand = suffixed(operands[tap % 3], `${line + Math.floor(tap / 3)}`);
    return [`vec4f(a${row}_${tap})`, operand] as const;
  });
  return `${sum} = ${fmas(sum, products)};`;
}

/** The epilogue: a loop over rows and image rows that selects the sums of one. */
function store({ rows, lines }: Context): string {
  const sum = (half: number) =>
    selected((i) => `c${Math.floor(i / lines)}_${i % lines}_${half}`, { count: rows * lines, index: "i" });
  return /* wgsl */ `
  for (var at = first_channel; at < first_channel + ${rows * lines}u; at++) {
    let i = at - first_channel;
    let y = first_line + i % ${lines}u;
    if (strip == own && y < params.height && row + i / ${lines}u < params.m) {
      let b = vec4f(image_bias(batch, row + i / ${lines}u));
      ${put(`batch, row + i / ${lines}u, y * params.width + column`, `mat2x4f(${sum(0)} + b, ${sum(1)} + b)`, 8)}
    }
  }`;
}
