import { type Cost, declareKernel, spread } from "../../engine/kernel/kernel.ts";
import { convBindings, convConstantTypes, convCost, convEpilogueWgsl, convParams } from "./epilogue.ts";
import { put } from "../gemm/tile.ts";
import { each, rowLoop } from "../wgsl/text.ts";

/**
 * 3×3 convolution, stride 1, padding 1, rows of vec4, for software devices with subgroups.
 *
 * A workgroup is one subgroup. A lane owns ROWS output channels of COLUMNS × four neighboring
 * pixels; weights are loaded once by the subgroup and handed round by `subgroupBroadcast`. The six
 * inputs of a row serve three taps of the four outputs, where the general kernel gathers twelve;
 * from a picture upsampled twice they are four inputs, which a parameter tells: as a kernel of its
 * own that was a sixth faster there (75 and 63 GFLOPS), where a tenth of a UNet's step is spent,
 * and compiled in another 0.7 s.
 * Measurements: docs/tuning.md.
 */
export const conv3x3Kernel = declareKernel({
  name: "conv2d_3x3",
  bindings: convBindings,
  params: { ...convParams, width: "u32", height: "u32", weight_kernel_row: "u32", upsample_shift: "u32" },
  constants: { ...convConstantTypes, LANES: "u32", ROWS: "u32", COLUMNS: "u32" },
  extensions: ["subgroups"],
  wgsl: (constants) => convEpilogueWgsl(constants) + conv3x3Wgsl(constants),
  grid: ({ m, n, batch }, { LANES, ROWS, COLUMNS }) => {
    const [x, z] = spread(Math.ceil(batch * n / 4 / LANES / COLUMNS));
    return [x, Math.ceil(m / ROWS), z];
  },
  cost: (params): Cost => convCost(params),
});

/**
 * The tile for `m` output channels of `n` pixels, each `k` products, where a lane has so many
 * outputs side by side.
 */
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
  /** Outputs of a lane side by side, which are written at once; inputs are read as many at once. */
  readonly Y_WIDTH: number;
}

/**
 * How the inputs of a lane's neighboring outputs are loaded, for one channel: left of them `l`,
 * below them `m` (and `n`), right of them `r`. An access moves as many inputs as there are outputs.
 * Under a picture upsampled twice half of them are wanted, each for two outputs: the first half
 * (`even`) or the second (`odd`); a neighbor on the other side of the access is then in it, too.
 */
const loads: Readonly<Record<number, (g: number) => string>> = {
  4: (g) =>
    `let all = x_at((p + middle${g}) / 4u);
    let h = select(all.xy, all.zw, odd${g});
    let m = select(vec4f(), select(all, h.xxyy, is_upsampled), in_row${g});
    let l = select(0.0, select(x_last((p + left${g}) / 4u), all.y, odd${g}), in_left${g});
    let r = select(0.0, select(x_first((p + right${g}) / 4u), all.z, even${g}), in_right${g});`,
  8: (g) =>
    `let all = x_at((p + middle${g}) / 8u);
    let h = select(all[0], all[1], odd${g});
    let m = select(vec4f(), select(all[0], h.xxyy, is_upsampled), in_row${g});
    let n = select(vec4f(), select(all[1], h.zzww, is_upsampled), in_row${g});
    let l = select(0.0, select(x_last((p + left${g}) / 8u), all[0].w, odd${g}), in_left${g});
    let r = select(0.0, select(x_first((p + right${g}) / 8u), all[1].x, even${g}), in_right${g});`,
};

/** The operands of the three taps, for each four outputs side by side. */
const tapsOf: Readonly<Record<number, readonly (readonly [string, string, string])[]>> = {
  4: [["vec4f(l, m.xyz)", "m", "vec4f(m.yzw, r)"]],
  8: [["vec4f(l, m.xyz)", "m", "vec4f(m.yzw, n.x)"], ["vec4f(m.w, n.xyz)", "n", "vec4f(n.yzw, r)"]],
};

function conv3x3Wgsl(
  { LANES: lanes, ROWS: rows, COLUMNS: columns, Y_WIDTH: width }: Constants,
): string {
  const weightLoads = Math.ceil(rows / lanes);
  const quads = width / 4, groups = columns / quads;
  // One chain of fma for all twelve products of a row: the accumulator is written once.
  const chain = (acc: string, q: number) => {
    let sum = acc;
    for (let tap = 0; tap < 3; tap++) {
      for (let j = 0; j < 4; j++) sum = `fma(vec4f(a${tap}.${"xyzw"[j]}), b${q}${j}_${tap}, ${sum})`;
    }
    return `${acc} = ${sum};`;
  };
  // The operands of channel j: variables b{column}{j}_{tap}, filled in a block that keeps their
  // sources' names to itself.
  const operands = (g: number, j: number) => {
    const name = (c: number, tap: number) => `b${g * quads + c}${j}_${tap}`;
    const all = tapsOf[width].flatMap((taps, c) => taps.map((operand, tap) => ({ name: name(c, tap), operand })));
    return `${all.map(({ name }) => `var ${name}: vec4f;`).join(" ")}
      { let p = start${g} + min(c * 4u + ${j}u, last) * plane; ${loads[width](g)} ${
      all.map(({ name, operand }) => `${name} = ${operand};`).join(" ")
    } }`;
  };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let pieces = params.n / ${width}u; // of a picture, each a lane's
  let first = (group.x + group.z * groups.x) * ${groups * lanes}u + lane;
  let row = group.y * ${rows}u;
  let is_upsampled = params.upsample_shift == 1u;
  let source_width = params.width >> params.upsample_shift;
  let plane = (params.height >> params.upsample_shift) * source_width;
  let last = params.in_channels - 1u;
  ${
    each(groups, (g) => `
  let piece${g} = first + ${g * lanes}u;
  // lanes beyond the edge work on the last piece: broadcasts need them
  let held${g} = min(piece${g}, params.batch * pieces - 1u);
  let batch${g} = held${g} / pieces;
  let pixel${g} = held${g} % pieces * ${width}u;
  let line${g} = pixel${g} / params.width;
  let column${g} = pixel${g} % params.width;
  let left${g} = (max(column${g}, 1u) - 1u) >> params.upsample_shift;
  let middle${g} = column${g} >> params.upsample_shift;
  let odd${g} = is_upsampled && middle${g} % ${width}u != 0u;
  let even${g} = is_upsampled && middle${g} % ${width}u == 0u;
  let right${g} = min(column${g} + ${width}u, params.width - 1u) >> params.upsample_shift;`)
  }
  ${
    each(weightLoads, (i) =>
      `let w${i} = params.weight_start + min(row + ${i * lanes}u + lane, params.m - 1u) * params.weight_row;`)
  }
  ${each(rows, (i) => each(columns, (q) => `var c${i}_${q} = vec4f();`, " "))}
  // Counted from the workgroup's own number: lavapipe would compile anew for each number of
  // channels (see tile.ts).
  let first_channel = group.y * params.in_channels;
  let end_channel = first_channel + params.in_channels;
  for (var ky = 0u; ky < 3u; ky++) {
    ${
    each(groups, (g) => `
    let in_row${g} = line${g} + ky >= 1u && line${g} + ky <= params.height;
    let in_left${g} = in_row${g} && column${g} > 0u;
    let in_right${g} = in_row${g} && column${g} + ${width}u < params.width;
    let above${g} = (clamp(line${g} + ky, 1u, params.height) - 1u) >> params.upsample_shift;
    let start${g} = params.x_start + batch${g} * params.x_batch + above${g} * source_width;`)
  }
    for (var at = first_channel; at < end_channel; at += 4u) {
      let c = (at - first_channel) / 4u;
      ${
    each(weightLoads, (i) =>
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
  ${
    rowLoop({ rows, columns, from: "first_channel" }, (column) =>
      each(groups, (g) => {
        const sum = width === 8 ? `mat2x4f(${column(2 * g)}, ${column(2 * g + 1)})` : column(g);
        return `if (piece${g} == held${g}) { ${put(`batch${g}, row + i, pixel${g}`, sum, width === 8 ? 8 : "")} }`;
      }))
  }
}`;
}
