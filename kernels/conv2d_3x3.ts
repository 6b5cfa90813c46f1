import { type Cost, declareKernel, spread } from "../engine/kernel.ts";
import { convBindings, convConstantNames, convCost, convEpilogueWgsl, convParams } from "./conv2d_epilogue.ts";
import { selected } from "./tile.ts";

/**
 * 3×3 convolution, stride 1, padding 1, rows in fours, for software devices with subgroups; reads x in f32 only.
 *
 * A workgroup is one subgroup. A lane owns ROWS output channels of COLUMNS × four neighbouring pixels; weights are loaded once by the
 * subgroup and handed round by `subgroupBroadcast`. The six inputs of a row serve three taps of the four outputs, where the general kernel
 * gathers twelve; from a picture upsampled twice they are four inputs.
 *
 * The ladder: lavapipe on two shared cores, best of eight runs in turns, GFLOPS at
 *
 *     32², 128→128 | 64², 320→320 | 16², 64→64
 *     28 | 30 | 19   the general kernel, 32 rows × 2 columns
 *     31 | 34 | 19   six scalar loads a row, 32 × 1
 *     34 | 40 | 25   a load of four and two of one of four (`x[i].w`; through `x_at(i).w` a tenth slower)
 *     38 | 46 | 21   32 × 2, which compiles in 1.7 s instead of 0.7: for large convolutions
 *
 * Tiles of 16 × 2, 40 × 1, 48 × 1 and 64 × 1 were no faster than 32 × 1 on the whole. On an idle machine 32², 128→128 reached 39 before the last two steps.
 */
export const conv3x3Kernel = declareKernel({
  name: "conv2d_3x3",
  bindings: convBindings,
  params: { ...convParams, width: "u32", height: "u32", weight_kernel_row: "u32" },
  constants: [...convConstantNames, "LANES", "ROWS", "COLUMNS"],
  subgroups: true,
  wgsl: (constants) => convEpilogueWgsl(constants) + conv3x3Wgsl(constants as unknown as Constants),
  grid: ({ m, n, batch }, constants) => {
    const { LANES, ROWS, COLUMNS } = constants as unknown as Constants;
    const [x, z] = spread(Math.ceil(batch * n / 4 / LANES / COLUMNS));
    return [x, Math.ceil(m / ROWS), z];
  },
  cost: (params): Cost => convCost(params),
});

/** The tile for `m` output channels of `n` pixels, each `k` products, where a lane has so many outputs side by side. */
export function conv3x3Tile(
  m: number,
  n: number,
  { k, outputs }: { k: number; outputs: 4 | 8 },
): { ROWS: number; COLUMNS: number } {
  // A tile's inputs cost as much as some 8 rows; few rows should be computed for nothing.
  const cost = (rows: number) => Math.ceil(m / rows) * (rows + 8);
  const large = m * n * k >= 2 ** 29; // worth the time that twice the code takes to compile
  const rows = large || outputs === 4 ? [32, 16, 8] : [16, 8];
  return {
    ROWS: rows.reduce((best, rows) => cost(rows) < cost(best) ? rows : best),
    COLUMNS: large || outputs === 8 ? 2 : 1,
  };
}

interface Constants {
  readonly LANES: number;
  readonly ROWS: number;
  readonly COLUMNS: number;
  readonly UPSAMPLE: number;
  /** Outputs of a lane side by side, which are written at once. */
  readonly Y_LANES: 4 | 8;
}

const each = (count: number, text: (i: number) => string, separator = "\n") =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);

/** How the inputs of a lane's neighbouring outputs become the operands of the three taps, b0_0 … of the first four outputs and b1_0 … of the next. */
interface Inputs {
  /** Loads at `p`, the start of a line of a channel: `left`, `middle`, `right` are the places in it, `in_…` whether they are in the picture. */
  readonly load: (g: number) => string;
  readonly taps: readonly (readonly [string, string, string])[];
}

const edge = (name: string, side: string, suffix: string, lanes: number, g: number) =>
  `let ${name} = select(0.0, x_${suffix}((p + ${side}${g}) / ${lanes}u), in_${side}${g});`;
const whole = (name: string, lanes: number, g: number, part = "") =>
  `let ${name} = select(vec4f(), x_at((p + middle${g}) / ${lanes}u)${part}, in_row${g});`;

/** By outputs of a lane side by side, and whether the picture is upsampled. */
const inputsOf: Readonly<Record<4 | 8, Readonly<Record<"plain" | "upsampled", Inputs>>>> = {
  4: {
    plain: {
      load: (g) => edge("l", "left", "last", 4, g) + whole("m", 4, g) + edge("r", "right", "first", 4, g),
      taps: [["vec4f(l, m.xyz)", "m", "vec4f(m.yzw, r)"]],
    },
    upsampled: { // inputs 1 and 2 are one, as are 3 and 4
      load: (g) =>
        `let l = select(0.0, x_at(p + left${g}), in_left${g}); let r = select(0.0, x_at(p + right${g}), in_right${g});
        let m = select(vec2f(), vec2f(x_at(p + middle${g}), x_at(p + middle${g} + 1u)), in_row${g});`,
      taps: [["vec4f(l, m.xxy)", "m.xxyy", "vec4f(m.xyy, r)"]],
    },
  },
  8: {
    plain: {
      load: (g) =>
        edge("l", "left", "last", 8, g) +
        `let both = x_at((p + middle${g}) / 8u); let m = select(vec4f(), both[0], in_row${g}); let n = select(vec4f(), both[1], in_row${g});` +
        edge("r", "right", "first", 8, g),
      taps: [["vec4f(l, m.xyz)", "m", "vec4f(m.yzw, n.x)"], ["vec4f(m.w, n.xyz)", "n", "vec4f(n.yzw, r)"]],
    },
    upsampled: {
      load: (g) => edge("l", "left", "last", 4, g) + whole("m", 4, g) + edge("r", "right", "first", 4, g),
      taps: [["vec4f(l, m.xxy)", "m.xxyy", "m.xyyz"], ["m.yzzw", "m.zzww", "vec4f(m.zww, r)"]],
    },
  },
};

/** Numbers that an access of x moves, for so many outputs side by side. */
export function conv3x3Lanes(outputs: 4 | 8, upsampled: boolean): 1 | 4 | 8 {
  return upsampled ? (outputs === 8 ? 4 : 1) : outputs;
}

function conv3x3Wgsl(
  { LANES: lanes, ROWS: rows, COLUMNS: columns, UPSAMPLE: upsample, Y_LANES: width }: Constants,
): string {
  const loads = Math.ceil(rows / lanes);
  const quads = width / 4, groups = columns / quads;
  const eight = width === 8 ? "8" : "";
  const inputs = inputsOf[width][upsample === 1 ? "upsampled" : "plain"];
  const halve = upsample === 1 ? " / 2u" : "";
  // One chain of fma for all twelve products of a row: the accumulator is written once.
  const chain = (acc: string, q: number) => {
    let sum = acc;
    for (let tap = 0; tap < 3; tap++) {
      for (let j = 0; j < 4; j++) sum = `fma(vec4f(a${tap}.${"xyzw"[j]}), b${q}${j}_${tap}, ${sum})`;
    }
    return `${acc} = ${sum};`;
  };
  // The operands of channel j: variables b{column}{j}_{tap}, filled in a block that keeps their sources' names to itself.
  const operands = (g: number, j: number) => {
    const name = (c: number, tap: number) => `b${g * quads + c}${j}_${tap}`;
    const all = inputs.taps.flatMap((taps, c) => taps.map((operand, tap) => ({ name: name(c, tap), operand })));
    return `${all.map(({ name }) => `var ${name}: vec4f;`).join(" ")}
      { let p = start${g} + min(c * 4u + ${j}u, last) * plane; ${inputs.load(g)} ${
      all.map(({ name, operand }) => `${name} = ${operand};`).join(" ")
    } }`;
  };
  const column = (c: number) => selected((row) => `c${row}_${c}`, { count: rows, index: "i" });
  const sum = (g: number) => width === 8 ? `mat2x4f(${column(2 * g)}, ${column(2 * g + 1)})` : column(g);
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let pieces = params.n / ${width}u; // of a picture, each a lane's
  let first = (group.x + group.z * groups.x) * ${groups * lanes}u + lane;
  let row = group.y * ${rows}u;
  let source_width = params.width${halve};
  let plane = params.height${halve} * source_width;
  let last = params.in_channels - 1u;
  ${
    each(groups, (g) => `
  let piece${g} = first + ${g * lanes}u;
  let held${g} = min(piece${g}, params.batch * pieces - 1u); // lanes beyond the edge work on the last piece: broadcasts need them
  let batch${g} = held${g} / pieces;
  let pixel${g} = held${g} % pieces * ${width}u;
  let line${g} = pixel${g} / params.width;
  let column${g} = pixel${g} % params.width;
  let left${g} = (max(column${g}, 1u) - 1u)${halve};
  let middle${g} = column${g}${halve};
  let right${g} = min(column${g} + ${width}u, params.width - 1u)${halve};`)
  }
  ${
    each(loads, (i) =>
      `let w${i} = params.weight_start + min(row + ${i * lanes}u + lane, params.m - 1u) * params.weight_row;`)
  }
  ${each(rows, (i) => each(columns, (q) => `var c${i}_${q} = vec4f();`, " "))}
  // Counted from the workgroup's own number: lavapipe would compile anew for each number of channels (see tile.ts).
  let first_channel = group.y * params.in_channels;
  let end_channel = first_channel + params.in_channels;
  for (var ky = 0u; ky < 3u; ky++) {
    ${
    each(groups, (g) => `
    let in_row${g} = line${g} + ky >= 1u && line${g} + ky <= params.height;
    let in_left${g} = in_row${g} && column${g} > 0u;
    let in_right${g} = in_row${g} && column${g} + ${width}u < params.width;
    let above${g} = (clamp(line${g} + ky, 1u, params.height) - 1u)${halve};
    let start${g} = params.x_start + batch${g} * params.x_batch + above${g} * source_width;`)
  }
    for (var at = first_channel; at < end_channel; at += 4u) {
      let c = (at - first_channel) / 4u;
      ${
    each(loads, (i) =>
      each(3, (tap) =>
        `let t${i}_${tap} = weight_at(w${i} + ky * params.weight_kernel_row + c * 3u + ${tap}u);`))
  }
      ${each(groups, (g) => each(4, (j) => operands(g, j)))}
      ${
    each(rows, (i) =>
      `{ ${
        each(3, (tap) =>
          `let a${tap} = subgroupBroadcast(t${Math.floor(i / lanes)}_${tap}, ${i % lanes}u);`, " ")
      } ${
        each(columns, (q) => chain(`c${i}_${q}`, q), " ")
      } }`)
  }
    }
  }
  let first_row = group.y * params.in_channels; // as above
  for (var at_row = first_row; at_row < first_row + min(${rows}u, params.m - row); at_row++) {
    let i = at_row - first_row;
    ${
    each(groups, (g) =>
      `if (piece${g} == held${g}) { let value = tile_end${eight}(batch${g}, row + i, pixel${g}, ${sum(g)}); ` +
      `tile_put${eight}(batch${g}, row + i, pixel${g}, value); }`)
  }
  }
}`;
}
