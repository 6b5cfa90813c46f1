import { type Cost, declareKernel, spread } from "../engine/kernel.ts";
import { convBindings, convConstantNames, convCost, convEpilogueWgsl, convParams } from "./conv2d_epilogue.ts";

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

/** The tile for `m` output channels of `n` pixels, each `k` products. */
export function conv3x3Tile(m: number, n: number, k: number): { ROWS: number; COLUMNS: number } {
  // A tile's inputs cost as much as some 8 rows; few rows should be computed for nothing.
  const cost = (rows: number) => Math.ceil(m / rows) * (rows + 8);
  return {
    ROWS: [32, 16, 8].reduce((best, rows) => cost(rows) < cost(best) ? rows : best),
    COLUMNS: m * n * k < 2 ** 29 ? 1 : 2, // two run a fifth faster and compile twice as long
  };
}

interface Constants {
  readonly LANES: number;
  readonly ROWS: number;
  readonly COLUMNS: number;
  readonly UPSAMPLE: number;
}

const each = (count: number, text: (i: number) => string, separator = "\n") =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);

/** The inputs of column `q`, channel `j`, as the operands of the three taps: six of a row, the outer two by an access to one of four. */
const sixInputs = (q: number, j: number) => `
  let p${q}${j} = start${q} + min(c * 4u + ${j}u, last) * plane;
  let l${q}${j} = select(0.0, x[(p${q}${j} + left${q}) / 4u].w, in_left${q});
  let m${q}${j} = select(vec4f(), x[(p${q}${j} + middle${q}) / 4u], in_row${q});
  let r${q}${j} = select(0.0, x[(p${q}${j} + right${q}) / 4u].x, in_right${q});
  let b${q}${j}_0 = vec4f(l${q}${j}, m${q}${j}.xyz);
  let b${q}${j}_1 = m${q}${j};
  let b${q}${j}_2 = vec4f(m${q}${j}.yzw, r${q}${j});`;

/** The same of an upsampled row, where inputs 1 and 2 are one, as are 3 and 4. */
const fourInputs = (q: number, j: number) => `
  let p${q}${j} = start${q} + min(c * 4u + ${j}u, last) * plane;
  let l${q}${j} = select(0.0, x[p${q}${j} + left${q}], in_left${q});
  let m${q}${j} = select(0.0, x[p${q}${j} + middle${q}], in_row${q});
  let n${q}${j} = select(0.0, x[p${q}${j} + middle${q} + 1u], in_row${q});
  let r${q}${j} = select(0.0, x[p${q}${j} + right${q}], in_right${q});
  let b${q}${j}_0 = vec4f(l${q}${j}, m${q}${j}, m${q}${j}, n${q}${j});
  let b${q}${j}_1 = vec4f(m${q}${j}, m${q}${j}, n${q}${j}, n${q}${j});
  let b${q}${j}_2 = vec4f(m${q}${j}, n${q}${j}, n${q}${j}, r${q}${j});`;

function conv3x3Wgsl({ LANES: lanes, ROWS: rows, COLUMNS: columns, UPSAMPLE: upsample }: Constants): string {
  const loads = Math.ceil(rows / lanes);
  const inputs = upsample === 1 ? fourInputs : sixInputs;
  const halve = upsample === 1 ? " / 2u" : "";
  // One chain of fma for all twelve products of a row: the accumulator is written once.
  const chain = (acc: string, q: number) => {
    let sum = acc;
    for (let tap = 0; tap < 3; tap++) {
      for (let j = 0; j < 4; j++) sum = `fma(vec4f(a${tap}.${"xyzw"[j]}), b${q}${j}_${tap}, ${sum})`;
    }
    return `${acc} = ${sum};`;
  };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let quads = params.n / 4u;
  let first = (group.x + group.z * groups.x) * ${columns * lanes}u + lane;
  let row = group.y * ${rows}u;
  let source_width = params.width${halve};
  let plane = params.height${halve} * source_width;
  let last = params.in_channels - 1u;
  ${
    each(columns, (q) => `
  let quad${q} = first + ${q * lanes}u;
  let held${q} = min(quad${q}, params.batch * quads - 1u); // lanes beyond the edge work on the last four: broadcasts need them
  let batch${q} = held${q} / quads;
  let pixel${q} = held${q} % quads * 4u;
  let line${q} = pixel${q} / params.width;
  let column${q} = pixel${q} % params.width;
  let left${q} = (max(column${q}, 1u) - 1u)${halve};
  let middle${q} = column${q}${halve};
  let right${q} = min(column${q} + 4u, params.width - 1u)${halve};`)
  }
  ${
    each(loads, (i) =>
      `let w${i} = params.weight_start + min(row + ${i * lanes}u + lane, params.m - 1u) * params.weight_row;`)
  }
  ${each(loads, (i) => `let v${i} = tile_row_start(batch0, min(row + ${i * lanes}u + lane, params.m - 1u));`)}
  ${
    each(rows, (i) =>
      `let u${i} = subgroupBroadcast(v${Math.floor(i / lanes)}, ${i % lanes}u); ${
        each(columns, (q) =>
          `var c${i}_${q} = vec4f(u${i});`, " ")
      }`)
  }
  // Counted from the workgroup's own number: lavapipe would compile anew for each number of channels (see tile.ts).
  let first_channel = group.y * params.in_channels;
  let end_channel = first_channel + params.in_channels;
  for (var ky = 0u; ky < 3u; ky++) {
    ${
    each(columns, (q) => `
    let in_row${q} = line${q} + ky >= 1u && line${q} + ky <= params.height;
    let in_left${q} = in_row${q} && column${q} > 0u;
    let in_right${q} = in_row${q} && column${q} + 4u < params.width;
    let above${q} = (clamp(line${q} + ky, 1u, params.height) - 1u)${halve};
    let start${q} = params.x_start + batch${q} * params.x_batch + above${q} * source_width;`)
  }
    for (var at = first_channel; at < end_channel; at += 4u) {
      let c = (at - first_channel) / 4u;
      ${
    each(loads, (i) =>
      each(3, (tap) =>
        `let t${i}_${tap} = weight_at(w${i} + ky * params.weight_kernel_row + c * 3u + ${tap}u);`))
  }
      ${each(columns, (q) => each(4, (j) => inputs(q, j)))}
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
    each(rows, (i) =>
      `if (row + ${i}u < params.m) { ${
        each(
          columns,
          (q) =>
            `if (quad${q} == held${q}) { tile_put(batch${q}, row + ${i}u, pixel${q}, tile_sum(batch${q}, row + ${i}u, pixel${q}, c${i}_${q})); }`,
          " ",
        )
      } }`)
  }
  for (var y = row; y < row + params.finish * min(${rows}u, params.m - row); y++) {
    ${
    each(columns, (q) =>
      `if (quad${q} == held${q}) { tile_put(batch${q}, y, pixel${q}, tile_end(batch${q}, y, pixel${q}, tile_get(batch${q}, y, pixel${q}))); }`)
  }
  }
}`;
}
