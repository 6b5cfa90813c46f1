import { type Cost, declareKernel, spread } from "../../engine/kernel/kernel.ts";
import { convBindings, convConstantTypes, convCost, convEpilogueWgsl, convParams } from "./epilogue.ts";
import { isLarge } from "../policy/device.ts";
import { put } from "../gemm/tile.ts";
import { inputsOf } from "./inputs3x3.ts";
import { neighborsWgsl } from "./neighbors.ts";
import { each, rowLoop, rowsInLanes } from "../wgsl/text.ts";

/**
 * 3×3 convolution for software devices with subgroups: with STRIDE 1, padding PAD = 1 and an image
 * width that is a multiple of 4; or with STRIDE 2, PAD 0 or 1 at the top and left, and an image
 * width that is a multiple of 8.
 *
 * A workgroup is one subgroup. A lane owns ROWS output channels × COLUMNS vec4 of adjacent pixels.
 * Weights are loaded once per subgroup and distributed by `subgroupBroadcast`. Four outputs and the
 * three taps of a kernel row share six inputs (nine with STRIDE 2); the general kernel gathers
 * twelve. The inputs beside a lane's own come from its neighbors by `subgroupShuffle`, and those
 * beside the subgroup's ends from one load for four channels.
 *
 * With `upsample_shift` = 1 the input is upsampled to twice its size first, and the six inputs
 * come from four source pixels. This is a param and not a constant, which saves compiling a second
 * variant. Measurements: docs/tuning.md.
 */
export const conv3x3Kernel = declareKernel({
  name: "conv2d_3x3",
  bindings: convBindings,
  params: { ...convParams, width: "u32", height: "u32", weight_kernel_row: "u32", upsample_shift: "u32" },
  constants: { ...convConstantTypes, LANES: "u32", ROWS: "u32", COLUMNS: "u32", STRIDE: "u32", PAD: "u32" },
  extensions: ["subgroups"],
  wgsl: (constants) => convEpilogueWgsl(constants) + neighborsWgsl(constants.LANES) + conv3x3Wgsl(constants),
  grid: ({ m, n, batch }, { LANES, ROWS, COLUMNS }) => {
    const [x, z] = spread(Math.ceil(batch * n / 4 / LANES / COLUMNS));
    return [x, Math.ceil(m / ROWS), z];
  },
  cost: (params): Cost => convCost(params),
});

/**
 * The tile for `m` output channels × `n` pixels, with `k` products per output.
 *
 * @param options.outputs adjacent outputs per access: 4, or 8 where the image width allows
 */
export function conv3x3Tile(
  m: number,
  n: number,
  { k, outputs }: { k: number; outputs: 4 | 8 },
): { ROWS: number; COLUMNS: number } {
  // Loading a tile's inputs costs about as much as 8 rows. Rows beyond m are computed in vain.
  const cost = (rows: number) => Math.ceil(m / rows) * (rows + 8);
  // Large ones run long enough to pay for compiling twice the code.
  const large = isLarge(m, n, k);
  const rows = m <= 4 ? [4] : large ? [32, 16, 8] : [16, 8];
  return {
    ROWS: rows.reduce((best, rows) => cost(rows) < cost(best) ? rows : best),
    COLUMNS: large || outputs === 8 ? 2 : 1,
  };
}

interface Constants {
  readonly LANES: number;
  readonly ROWS: number;
  readonly COLUMNS: number;
  /** Adjacent outputs of one store. Loads of inputs are STRIDE times as wide. */
  readonly Y_WIDTH: number;
  readonly STRIDE: number;
  /** Padding at the top and left. */
  readonly PAD: number;
}

function conv3x3Wgsl(
  { LANES: lanes, ROWS: rows, COLUMNS: columns, Y_WIDTH: width, STRIDE: stride, PAD: pad }: Constants,
): string {
  // Names in the generated text. c{row}_{column} are sums. Of group g of a lane's adjacent outputs:
  // piece{g} its number, batch{g}, line{g} and column{g} its place. b{column}{j}_{tap} are the
  // inputs of channel j. t{i}_{tap} are weights that this lane loads, vec4 of four channels, and
  // a{tap} those of a row after the broadcast.
  const { load, taps } = inputsOf(width, stride, pad);
  const xWidth = width * stride;
  const weightLoads = Math.ceil(rows / lanes);
  const { rowOf, ofRow } = rowsInLanes(lanes);
  const accessVec4 = width / 4, groups = columns / accessVec4;
  // All twelve products of a kernel row form one chain of fma, so the accumulator is written once.
  const chain = (acc: string, q: number) => {
    let sum = acc;
    for (let tap = 0; tap < 3; tap++) {
      for (let j = 0; j < 4; j++) sum = `fma(vec4f(a${tap}.${"xyzw"[j]}), b${q}${j}_${tap}, ${sum})`;
    }
    return `${acc} = ${sum};`;
  };
  const ofGroup = (g: number) => ({ group: g, inside: `in_row${g}`, inLeft: `in_left${g}`, inRight: `in_right${g}` });
  // The operands of channel j: variables b{column}{j}_{tap}. The block limits the scope of the
  // names that `load` declares.
  const operands = (g: number, j: number) => {
    const name = (c: number, tap: number) => `b${g * accessVec4 + c}${j}_${tap}`;
    const all = taps.flatMap((taps, c) => taps.map((operand, tap) => ({ name: name(c, tap), operand })));
    return `${all.map(({ name }) => `var ${name}: vec4f;`).join(" ")}
      { let p = start${g} + min(c * 4u + ${j}u, last) * plane; let edge_left = subgroupBroadcast(edges${g}, ${j}u);
      let edge_right = subgroupBroadcast(${lanes >= 8 ? "edges" : "edges_right"}${g}, ${lanes >= 8 ? 4 + j : j}u);
      ${load(ofGroup(g))} ${all.map(({ name, operand }) => `${name} = ${operand};`).join(" ")} }`;
  };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  own_lane = lane;
  let pieces = params.n / ${width}u; // pieces per image; a lane computes ${groups}
  let first = (group.x + group.z * groups.x) * ${groups * lanes}u + lane;
  let row = group.y * ${rows}u;
  let is_upsampled = params.upsample_shift == 1u;
  let source_width = ${stride === 1 ? "params.width >> params.upsample_shift" : `params.width * ${stride}u`};
  let plane = (params.height >> params.upsample_shift) * source_width;
  let last = params.in_channels - 1u;
  ${
    each(groups, (g) => `
  let piece${g} = first + ${g * lanes}u;
  // Lanes past the end repeat the last piece, because all lanes must take part in broadcasts.
  let own${g} = min(piece${g}, params.batch * pieces - 1u);
  let batch${g} = own${g} / pieces;
  let pixel${g} = own${g} % pieces * ${width}u;
  let line${g} = pixel${g} / params.width;
  let column${g} = pixel${g} % params.width;
  let x${g} = column${g} * ${stride}u;
  let left${g} = (max(x${g}, 1u) - 1u) >> params.upsample_shift;
  let middle${g} = x${g} >> params.upsample_shift;
  let odd${g} = is_upsampled && middle${g} % ${width}u != 0u;
  let even${g} = is_upsampled && middle${g} % ${width}u == 0u;
  let right${g} = min(x${g} + ${xWidth}u, params.width * ${stride}u - 1u) >> params.upsample_shift;`)
  }
  ${each(weightLoads, (i) => `let w${i} = params.weight_start + ${rowOf(i)} * params.weight_row;`)}
  ${each(weightLoads, (i) => `let s${i} = row_bias(${rowOf(i)});`)}
  ${each(rows, (i) => each(columns, (q) => `var c${i}_${q} = vec4f(${ofRow("s", i)});`, " "))}
  // Counts from a number that depends on the workgroup: see tile.ts.
  let first_channel = group.y * params.in_channels;
  let end_channel = first_channel + params.in_channels;
  for (var ky = 0u; ky < 3u; ky++) {
    ${
    each(groups, (g) => `
    let y${g} = line${g} * ${stride}u + ky;
    let in_row${g} = y${g} >= ${pad}u && y${g} < params.height + ${pad}u;
    let in_left${g} = in_row${g} && column${g} > 0u;
    let in_right${g} = in_row${g} && column${g} + ${width}u < params.width;
    let above${g} = (clamp(y${g}, ${pad}u, params.height + ${pad}u - 1u) - ${pad}u) >> params.upsample_shift;
    let start${g} = params.x_start + batch${g} * params.x_batch + above${g} * source_width;
    let end_left${g} = subgroupBroadcast(start${g} + left${g}, 0u);
    let end_right${g} = subgroupBroadcast(start${g} + right${g}, ${lanes - 1}u);`)
  }
    for (var at = first_channel; at < end_channel; at += 4u) {
      let c = (at - first_channel) / 4u;
      ${
    each(weightLoads, (i) =>
      each(3, (tap) =>
        `let t${i}_${tap} = weight_at(w${i} + ky * params.weight_kernel_row + c * 3u + ${tap}u);`))
  }
      // The inputs beside the subgroup's ends: each lane loads one, of one channel.
      let edge_plane = min(c * 4u + lane % 4u, last) * plane;
      ${
    each(groups, (g) =>
      lanes >= 8
        ? `let edges${g} = x_element_at(edge_plane + select(end_left${g}, end_right${g}, lane % 8u >= 4u));`
        : `let edges${g} = x_element_at(edge_plane + end_left${g}); let edges_right${g} = x_element_at(edge_plane + end_right${g});`)
  }
      ${each(groups, (g) => each(4, (j) => operands(g, j)))}
      ${
    each(rows, (i) =>
      `{ ${
        each(3, (tap) => `let a${tap} = ${ofRow("t", i, `_${tap}`)};`, " ")
      } ${
        each(columns, (q) => chain(`c${i}_${q}`, q), " ")
      } }`)
  }
    }
  }
  ${
    rowLoop({ rows, columns, from: "first_channel" }, (column) =>
      each(groups, (g) => {
        const sum = width === 8
          ? `mat2x4f(${column(2 * g)} + b${g}, ${column(2 * g + 1)} + b${g})`
          : `${column(g)} + b${g}`;
        return `if (piece${g} == own${g}) { let b${g} = vec4f(image_bias(batch${g}, row + i)); ${
          put(`batch${g}, row + i, pixel${g}`, sum, width === 8 ? 8 : "")
        } }`;
      }))
  }
}`;
}
