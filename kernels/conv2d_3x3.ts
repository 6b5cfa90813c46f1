import { type Cost, declareKernel, spread } from "../engine/kernel.ts";
import { convBindings, convConstantNames, convCost, convEpilogueWgsl, convParams } from "./conv2d_epilogue.ts";

/**
 * 3×3 convolution, stride 1, padding 1, rows in fours, for software devices with subgroups.
 *
 * A workgroup is one subgroup. A lane owns four neighbouring pixels of ROWS output channels; weights are loaded once by the subgroup and
 * handed round by `subgroupBroadcast`. The six inputs of a row serve three taps of the four outputs, where the general kernel gathers twelve; from
 * a picture upsampled twice they are four inputs.
 */
export const conv3x3Kernel = declareKernel({
  name: "conv2d_3x3",
  bindings: convBindings,
  params: { ...convParams, width: "u32", height: "u32", weight_kernel_row: "u32" },
  constants: [...convConstantNames, "LANES", "ROWS"],
  subgroups: true,
  wgsl: (constants) => convEpilogueWgsl(constants) + conv3x3Wgsl(constants as unknown as Constants),
  grid: ({ m, n, batch }, constants) => {
    const [x, z] = spread(Math.ceil(batch * n / 4 / (constants.LANES as number)));
    return [x, Math.ceil(m / (constants.ROWS as number)), z];
  },
  cost: (params): Cost => convCost(params),
});

/** Rows (output channels) of a tile, such that few are computed for nothing: a tile's inputs cost as much as some 8 rows. */
export function conv3x3Rows(outChannels: number): number {
  const cost = (rows: number) => Math.ceil(outChannels / rows) * (rows + 8);
  return [32, 24, 16, 8].reduce((best, rows) => cost(rows) < cost(best) ? rows : best);
}

interface Constants {
  readonly LANES: number;
  readonly ROWS: number;
  readonly UPSAMPLE: number;
}

const each = (count: number, text: (i: number) => string, separator = "\n") =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);

function conv3x3Wgsl({ LANES: lanes, ROWS: rows, UPSAMPLE: upsample }: Constants): string {
  const loads = Math.ceil(rows / lanes);
  // The six inputs of four pixels: of an upsampled row, inputs 1 and 2 are one and the same, as are 3 and 4.
  const inputs = upsample === 1
    ? (j: number) => `
      let p${j} = start + min(c * 4u + ${j}u, last) * plane;
      let l${j} = select(0.0, x_at(p${j} + left), in_left);
      let m${j} = select(0.0, x_at(p${j} + middle), in_row);
      let n${j} = select(0.0, x_at(p${j} + middle + 1u), in_row);
      let r${j} = select(0.0, x_at(p${j} + right), in_right);
      let b${j}_0 = vec4f(l${j}, m${j}, m${j}, n${j});
      let b${j}_1 = vec4f(m${j}, m${j}, n${j}, n${j});
      let b${j}_2 = vec4f(m${j}, n${j}, n${j}, r${j});`
    : (j: number) => `
      let p${j} = start + min(c * 4u + ${j}u, last) * plane;
      let l${j} = select(0.0, x_at(p${j} + left), in_left);
      ${each(4, (i) => `let m${j}_${i} = select(0.0, x_at(p${j} + middle + ${i}u), in_row);`)}
      let r${j} = select(0.0, x_at(p${j} + right), in_right);
      let b${j}_0 = vec4f(l${j}, m${j}_0, m${j}_1, m${j}_2);
      let b${j}_1 = vec4f(m${j}_0, m${j}_1, m${j}_2, m${j}_3);
      let b${j}_2 = vec4f(m${j}_1, m${j}_2, m${j}_3, r${j});`;
  // One chain of fma for all twelve products of a row: the accumulator is written once.
  const chain = (acc: string) => {
    let sum = acc;
    for (let tap = 0; tap < 3; tap++) {
      for (let j = 0; j < 4; j++) sum = `fma(vec4f(a${tap}.${"xyzw"[j]}), b${j}_${tap}, ${sum})`;
    }
    return `${acc} = ${sum};`;
  };
  const halve = upsample === 1 ? " / 2u" : "";
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let quads = params.n / 4u;
  let quad = (group.x + group.z * groups.x) * ${lanes}u + lane;
  let held = min(quad, params.batch * quads - 1u); // lanes beyond the edge work on the last four: broadcasts need them
  let batch = held / quads;
  let pixel = held % quads * 4u;
  let y = pixel / params.width;
  let x = pixel % params.width;
  let row = group.y * ${rows}u;
  let source_width = params.width${halve};
  let plane = params.height${halve} * source_width;
  let last = params.in_channels - 1u;
  let left = (max(x, 1u) - 1u)${halve};
  let middle = x${halve};
  let right = min(x + 4u, params.width - 1u)${halve};
  ${
    each(loads, (i) =>
      `let w${i} = params.weight_start + min(row + ${i * lanes}u + lane, params.m - 1u) * params.weight_row;`)
  }
  ${each(rows, (i) => `var c${i} = vec4f();`, " ")}
  for (var ky = 0u; ky < 3u; ky++) {
    let in_row = y + ky >= 1u && y + ky <= params.height;
    let in_left = in_row && x > 0u;
    let in_right = in_row && x + 4u < params.width;
    let start = params.x_start + batch * params.x_batch + (clamp(y + ky, 1u, params.height) - 1u)${halve} * source_width;
    for (var c = 0u; c * 4u < params.in_channels; c++) {
      ${
    each(loads, (i) =>
      each(3, (tap) =>
        `let t${i}_${tap} = weight_at(w${i} + ky * params.weight_kernel_row + c * 3u + ${tap}u);`))
  }
      ${each(4, inputs)}
      ${
    each(rows, (i) =>
      `{ ${
        each(3, (tap) =>
          `let a${tap} = subgroupBroadcast(t${Math.floor(i / lanes)}_${tap}, ${i % lanes}u);`, " ")
      } ${chain(`c${i}`)} }`)
  }
    }
  }
  if (quad > held) { return; }
  ${each(rows, (i) => `if (row + ${i}u < params.m) { tile_put(batch, row + ${i}u, pixel, c${i}); }`)}
}`;
}
