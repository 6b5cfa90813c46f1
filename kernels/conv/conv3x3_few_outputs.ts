import { type Cost, declareKernel, spread } from "../../engine/kernel/kernel.ts";
import { put } from "../gemm/tile.ts";
import { each, selected } from "../wgsl/text.ts";
import { neighborsWgsl } from "./neighbors.ts";
import { convBindings, convConstantTypes, convCost, convEpilogueWgsl, convParams } from "./epilogue.ts";

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
  params: { ...convParams, width: "u32", height: "u32", weight_kernel_row: "u32" },
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

function fewOutputsWgsl({ LANES: lanes, ROWS: rows, LINES: lines }: Constants): string {
  // Names in the generated text. Of input line n: m{n} and n{n} the inputs at the lane's eight
  // pixels, l{n} and r{n} the inputs to their left and right. Of output channel `row`: a{row}_{tap}
  // its weights for the current channel, c{row}_{line}_{half} the sums of four pixels.
  //
  // An image line is computed as soon as its last input line is loaded. So loads, which wait for
  // memory, and arithmetic alternate.
  //
  // The weights of an output channel (a filter) for four input channels are 9 vec4, one for each
  // tap. A subgroup has more lanes than rows, so `parts` lanes share a filter: the lane with number
  // row + part · rows loads the taps from part · partLength on, as t0, t1, …, and broadcasts
  // component x, the weight of the current channel. After each channel the vec4 are rotated.
  const parts = Math.max(1, Math.min(9, Math.floor(lanes / rows))), partLength = Math.ceil(9 / parts);
  const weightOf = (row: number, tap: number) => {
    const part = Math.floor(tap / partLength);
    return `subgroupBroadcast(t${tap - part * partLength}.x, ${row + part * rows}u)`;
  };
  const inputs = lines + 2;
  const operand = (n: number, tap: number, half: number) =>
    [
      [`vec4f(l${n}, m${n}.xyz)`, `m${n}`, `vec4f(m${n}.yzw, n${n}.x)`],
      [`vec4f(m${n}.w, n${n}.xyz)`, `n${n}`, `vec4f(n${n}.yzw, r${n})`],
    ][half][tap];
  /** All nine products of a channel form one chain of fma, so the accumulator is written once. */
  const chain = (row: number, line: number, half: number) => {
    const acc = `c${row}_${line}_${half}`;
    let sum = acc;
    for (let tap = 0; tap < 9; tap++) {
      sum = `fma(vec4f(a${row}_${tap}), ${operand(line + Math.floor(tap / 3), tap % 3, half)}, ${sum})`;
    }
    return `${acc} = ${sum};`;
  };
  const channel = /* wgsl */ `
      let p = image + min(channel, last) * plane;
      // Loaded one channel ahead, which brings cache lines early: three of each input line.
      let ends_left = next_left;
      let ends_right = next_right;
      let next = image + min(channel + 1u, last) * plane;
      next_left = x_element_at(next + end_left);
      next_right = x_element_at(next + end_right);
      prefetched = x_element_at(next + end_left + 1u);
      ${each(rows, (row) => each(9, (tap) => `let a${row}_${tap} = ${weightOf(row, tap)};`, " "))}
      ${
    each(inputs, (n) =>
      `let all${n} = x_at((p + at${n}) / 8u);
      let m${n} = select(vec4f(), all${n}[0], inside${n});
      let n${n} = select(vec4f(), all${n}[1], inside${n});
      let l${n} = select(0.0, before(all${n}[1].w, subgroupBroadcast(ends_left, ${n}u)), inside${n} && column > 0u);
      let r${n} = select(0.0, after(all${n}[0].x, subgroupBroadcast(ends_right, ${n}u)), inside${n} && column + 8u < params.width);
      ${n < 2 ? "" : each(rows, (row) => each(2, (half) => chain(row, n - 2, half), " "))}`)
  }
      channel++;
      ${each(partLength, (i) => `t${i} = t${i}.yzwx;`, " ")}`;
  const sum = (half: number) =>
    selected((i) => `c${Math.floor(i / lines)}_${i % lines}_${half}`, { count: rows * lines, index: "i" });
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  own_lane = lane;
  let across = params.width / 8u;
  let pieces = across * ((params.height + ${lines - 1}u) / ${lines}u); // per image
  let piece = (group.x + group.z * groups.x) * ${lanes}u + lane;
  let row = group.y * ${rows}u;
  // Lanes past the end repeat the last piece, because all lanes must take part in broadcasts.
  let own = min(piece, params.batch * pieces - 1u);
  let batch = own / pieces;
  let first_line = own % pieces / across * ${lines}u;
  let column = own % across * 8u;
  let plane = params.height * params.width;
  let last = params.in_channels - 1u;
  let image = params.x_start + batch * params.x_batch;
  ${
    each(inputs, (n) =>
      `let inside${n} = first_line + ${n}u >= 1u && first_line + ${n}u <= params.height;
  let at${n} = (clamp(first_line + ${n}u, 1u, params.height) - 1u) * params.width + column;`)
  }
  // Lane n loads the inputs beside the subgroup's ends in input line n.
  let end_left = subgroupBroadcast(image, 0u) - image + max(subgroupBroadcast(column, 0u), 1u) - 1u +
    (clamp(subgroupBroadcast(first_line, 0u) + lane, 1u, params.height) - 1u) * params.width;
  let end_right = subgroupBroadcast(image, ${lanes - 1}u) - image +
    min(subgroupBroadcast(column, ${lanes - 1}u) + 8u, params.width - 1u) +
    (clamp(subgroupBroadcast(first_line, ${lanes - 1}u) + lane, 1u, params.height) - 1u) * params.width;
  var next_left = x_element_at(image + end_left);
  var next_right = x_element_at(image + end_right);
  var prefetched = 0.0;
  let filter_row = min(row + lane % ${rows}u, params.m - 1u);
  let part = min(lane / ${rows}u, ${parts - 1}u);
  ${
    each(partLength, (i) =>
      `let tap${i} = min(part * ${partLength}u + ${i}u, 8u);
  let w${i} = params.weight_start + filter_row * params.weight_row + tap${i} / 3u * params.weight_kernel_row + tap${i} % 3u;`)
  }
  let bias = row_bias(filter_row);
  ${
    each(rows, (row) =>
      each(lines, (line) =>
        each(2, (half) =>
          `var c${row}_${line}_${half} = vec4f(subgroupBroadcast(bias, ${row}u));`, " "), " "))
  }
  // Counts from a number that depends on the workgroup: see tile.ts.
  let first_channel = group.x * params.in_channels;
  let end_channel = first_channel + params.in_channels;
  for (var at = first_channel; at < end_channel; at += 4u) {
    var channel = at - first_channel;
    ${each(partLength, (i) => `var t${i} = weight_at(w${i} + channel / 4u * 3u);`)}
    for (var j = at; j < at + 4u; j++) {
      ${channel}
    }
  }
  // Never true, but the compiler must keep the loads of what was prefetched.
  if (params.width == 0u) { c0_0_0.x = prefetched; }
  for (var at = first_channel; at < first_channel + ${rows * lines}u; at++) {
    let i = at - first_channel;
    let y = first_line + i % ${lines}u;
    if (piece == own && y < params.height && row + i / ${lines}u < params.m) {
      let b = vec4f(image_bias(batch, row + i / ${lines}u));
      ${put(`batch, row + i / ${lines}u, y * params.width + column`, `mat2x4f(${sum(0)} + b, ${sum(1)} + b)`, 8)}
    }
  }
}`;
}
