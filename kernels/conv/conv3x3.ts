import { type Cost, declareKernel, spread } from "../../engine/kernel/kernel.ts";
import { conv3x3Params, convBindings, convConstantTypes, convCost, convEpilogueWgsl } from "./epilogue.ts";
import { isLarge } from "../policy/device.ts";
import { put } from "../gemm/tile.ts";
import { type Inputs, inputsOf } from "./inputs3x3.ts";
import { edgeInputs, neighborsWgsl } from "./neighbors.ts";
import { each, eachInLine, fmas, rowLoop, type RowsInLanes, rowsInLanes } from "../wgsl/text.ts";

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
  params: { ...conv3x3Params, upsample_shift: "u32" },
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

/** What the parts of the text depend on. */
interface Context {
  readonly lanes: number;
  readonly rows: number;
  readonly columns: number;
  /** Pixels of a strip: adjacent outputs of one store. */
  readonly width: number;
  readonly stride: number;
  readonly pad: number;
  /** Strips of a lane. */
  readonly strips: number;
  /** Vec4 of a strip; `columns` of all strips. */
  readonly stripVec4: number;
  /** How the lanes load the weights and biases of the rows. */
  readonly inLanes: RowsInLanes;
  readonly inputs: Inputs;
}

/**
 * The entry point. Names in the generated text:
 *
 * - A strip is `width` adjacent pixels of an image row. Of a lane's strip g: `strip{g}` its number,
 *   `own{g}` the same, clamped to the last one; `batch{g}`, `line{g}` and `column{g}` its place.
 * - `c{row}_{column}` are sums of four pixels.
 * - `b{column}{j}_{tap}` are the inputs of channel j.
 * - `t{i}_{tap}` are weights that this lane loads, vec4 of four channels, and `a{tap}` those of a
 *   row after the broadcast.
 */
function conv3x3Wgsl(
  { LANES: lanes, ROWS: rows, COLUMNS: columns, Y_WIDTH: width, STRIDE: stride, PAD: pad }: Constants,
): string {
  const stripVec4 = width / 4, strips = columns / stripVec4;
  const inputs = inputsOf(width, stride, pad), inLanes = rowsInLanes({ rows, lanes });
  const c: Context = { lanes, rows, columns, width, stride, pad, strips, stripVec4, inLanes, inputs };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  own_lane = lane;
  ${placeStrips(c)}
  ${startSums(c)}
  // Counts from a number that depends on the workgroup: see gemm/tile.ts.
  let first_channel = group.y * params.in_channels;
  let end_channel = first_channel + params.in_channels;
  for (var ky = 0u; ky < 3u; ky++) {
    ${each(strips, (g) => placeImageRow(c, g))}
    for (var at = first_channel; at < end_channel; at += 4u) {
      let c = (at - first_channel) / 4u;
      ${loadWeights(c)}
      ${loadInputs(c)}
      ${multiply(c)}
    }
  }
  ${store(c)}
}`;
}

/** The lane's rows and strips, and the places of the inputs at, left and right of each strip. */
const placeStrips = ({ lanes, rows, width, stride, strips }: Context) => /* wgsl */ `
  let strips = params.n / ${width}u; // strips per image; a lane computes ${strips}
  let first = (group.x + group.z * groups.x) * ${strips * lanes}u + lane;
  let row = group.y * ${rows}u;
  let is_upsampled = params.upsample_shift == 1u;
  let source_width = ${stride === 1 ? "params.width >> params.upsample_shift" : `params.width * ${stride}u`};
  let plane = (params.height >> params.upsample_shift) * source_width;
  let last = params.in_channels - 1u;
  ${
  each(strips, (g) => `
  let strip${g} = first + ${g * lanes}u;
  // Lanes past the end repeat the last strip, because all lanes must take part in broadcasts.
  let own${g} = min(strip${g}, params.batch * strips - 1u);
  let batch${g} = own${g} / strips;
  let pixel${g} = own${g} % strips * ${width}u;
  let line${g} = pixel${g} / params.width;
  let column${g} = pixel${g} % params.width;
  let x${g} = column${g} * ${stride}u;
  let left${g} = (max(x${g}, 1u) - 1u) >> params.upsample_shift;
  let middle${g} = x${g} >> params.upsample_shift;
  let odd${g} = is_upsampled && middle${g} % ${width}u != 0u;
  let even${g} = is_upsampled && middle${g} % ${width}u == 0u;
  let right${g} = min(x${g} + ${width * stride}u, params.width * ${stride}u - 1u) >> params.upsample_shift;`)
}`;

/** The addresses of the weights that the lane loads, and the sums, which start from the biases. */
const startSums = ({ rows, columns, inLanes: { loads, rowOf, ofRow } }: Context) => /* wgsl */ `
  ${each(loads, (i) => `let w${i} = params.weight_start + ${rowOf(i)} * params.weight_row;`)}
  ${each(loads, (i) => `let s${i} = row_bias(${rowOf(i)});`)}
  ${each(rows, (i) => eachInLine(columns, (q) => `var c${i}_${q} = vec4f(${ofRow("s", i)});`))}`;

/** The row of the image, or of its source, that kernel row `ky` meets in strip g. */
const placeImageRow = ({ lanes, width, stride, pad }: Context, g: number) => /* wgsl */ `
    let y${g} = line${g} * ${stride}u + ky;
    let in_row${g} = y${g} >= ${pad}u && y${g} < params.height + ${pad}u;
    let in_left${g} = in_row${g} && column${g} > 0u;
    let in_right${g} = in_row${g} && column${g} + ${width}u < params.width;
    let above${g} = (clamp(y${g}, ${pad}u, params.height + ${pad}u - 1u) - ${pad}u) >> params.upsample_shift;
    let start${g} = params.x_start + batch${g} * params.x_batch + above${g} * source_width;
    let end_left${g} = subgroupBroadcast(start${g} + left${g}, 0u);
    let end_right${g} = subgroupBroadcast(start${g} + right${g}, ${lanes - 1}u);`;

/** The weights of kernel row `ky`, for the four channels from 4 `c` on. */
const loadWeights = ({ inLanes }: Context) =>
  each(
    inLanes.loads,
    (i) => each(3, (tap) => `let t${i}_${tap} = weight_at(w${i} + ky * params.weight_kernel_row + c * 3u + ${tap}u);`),
  );

/** The inputs of four channels: first those beside the subgroup's ends, then each lane's own. */
const loadInputs = (c: Context) => /* wgsl */ `
      let edge_plane = min(c * 4u + lane % 4u, last) * plane;
      ${each(c.strips, (g) => edgeInputs(c.lanes, g).load)}
      ${each(c.strips, (g) => each(4, (j) => loadChannel(c, g, j)))}`;

/** The operands of strip g and channel j. The block limits the scope of the names of `load`. */
function loadChannel({ lanes, stripVec4, inputs: { load, taps } }: Context, g: number, j: number): string {
  const edges = edgeInputs(lanes, g);
  const operands = taps.flatMap((ofVec4, i) =>
    ofVec4.map((value, tap) => ({ name: `b${g * stripVec4 + i}${j}_${tap}`, value }))
  );
  const names = { group: g, inside: `in_row${g}`, inLeft: `in_left${g}`, inRight: `in_right${g}` };
  return `${operands.map(({ name }) => `var ${name}: vec4f;`).join(" ")}
      { let p = start${g} + min(c * 4u + ${j}u, last) * plane;
      let edge_left = ${edges.left(j)};
      let edge_right = ${edges.right(j)};
      ${load(names)} ${operands.map(({ name, value }) => `${name} = ${value};`).join(" ")} }`;
}

/**
 * Adds the products of a kernel row and four channels to all sums. The twelve products of a sum
 * form one chain of fma, so the accumulator is written once.
 */
function multiply({ rows, columns, inLanes: { ofRow } }: Context): string {
  const productsOf = (q: number) =>
    [0, 1, 2].flatMap((tap) =>
      [..."xyzw"].map((channel, j) => [`vec4f(a${tap}.${channel})`, `b${q}${j}_${tap}`] as const)
    );
  return each(rows, (i) =>
    `{ ${eachInLine(3, (tap) => `let a${tap} = ${ofRow("t", i, `_${tap}`)};`)}
      ${eachInLine(columns, (q) => `c${i}_${q} = ${fmas(`c${i}_${q}`, productsOf(q))};`)} }`);
}

/** The epilogue: a loop over rows that adds the image's bias and stores each strip. */
const store = ({ rows, columns, width, strips }: Context) =>
  rowLoop({ rows, columns, from: "first_channel" }, (column) =>
    each(strips, (g) => {
      const sum = width === 8
        ? `mat2x4f(${column(2 * g)} + b${g}, ${column(2 * g + 1)} + b${g})`
        : `${column(g)} + b${g}`;
      const stored = put(`batch${g}, row + i, pixel${g}`, sum, width === 8 ? 8 : "");
      return `if (strip${g} == own${g}) { let b${g} = vec4f(image_bias(batch${g}, row + i)); ${stored} }`;
    }));
