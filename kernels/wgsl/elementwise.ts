import type { Gpu } from "../../engine/gpu.ts";
import { type ConstantValues, type Grid, spread } from "../../engine/kernel/kernel.ts";
import { policyOf } from "../policy.ts";

/**
 * The entry point of kernels that process each element of a `rows` × `columns` grid independently.
 * Such a kernel defines `fn element(row: u32, column: u32)`, declares {@linkcode elementwiseParams}
 * and {@linkcode elementwiseConstantTypes}, and is run with the values of {@linkcode elementwise}.
 * Columns count accesses, such as vec4.
 *
 * A workgroup processes LANES_Y rows and TURNS · LANES_X columns. Adjacent lanes access adjacent
 * columns, and no invocation divides by the row length. Measurements: docs/tuning.md.
 */
export const elementwiseWgsl = /* wgsl */ `
@compute @workgroup_size(LANES_X, LANES_Y)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) lane: vec3u) {
  let workgroup = group.x + group.y * groups.x;
  let row = workgroup / params.parts * LANES_Y + lane.y;
  if (row >= params.rows) { return; }
  let start = workgroup % params.parts * (LANES_X * TURNS);
  let end = min(start + LANES_X * TURNS, params.columns);
  for (var column = start + lane.x; column < end; column += LANES_X) { element(row, column); }
}
`;

/** Params of elementwise kernels. */
export const elementwiseParams = { rows: "u32", columns: "u32", parts: "u32" } as const;

/** Constants of elementwise kernels. */
export const elementwiseConstantTypes = { LANES_X: "u32", LANES_Y: "u32", TURNS: "u32" } as const;

/** Params and constants of one elementwise run. */
export interface Elementwise {
  readonly params: { readonly rows: number; readonly columns: number; readonly parts: number };
  readonly constants: ConstantValues<typeof elementwiseConstantTypes>;
}

/** Params and constants of an elementwise run over `rows` × `columns` on a device. */
export function elementwise(gpu: Gpu, rows: number, columns: number): Elementwise {
  const constants = policyOf(gpu).passes.elementwise(rows, columns);
  const parts = Math.ceil(columns / (constants.LANES_X * constants.TURNS));
  return { params: { rows, columns, parts }, constants };
}

/** The grid of an elementwise run. */
export function elementwiseGrid(
  { rows, parts }: { readonly rows: number; readonly parts: number },
  { LANES_Y }: ConstantValues<typeof elementwiseConstantTypes>,
): Grid {
  return spread(Math.ceil(rows / LANES_Y) * parts);
}

/** Invocations per workgroup of {@linkcode flatWgsl}. */
const flatLanes = 64;

/**
 * The entry point of kernels that process each element of a flat array independently. Such a kernel
 * defines `fn element(i: u32)`; one invocation calls it for each i < `count`. Use it unless a
 * profile shows the kernel: {@linkcode elementwiseWgsl} runs faster and takes longer to compile.
 *
 * @param count WGSL expression
 */
export const flatWgsl = (count: string) => /* wgsl */ `
@compute @workgroup_size(${flatLanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * ${flatLanes}u + lane;
  if (i < ${count}) { element(i); }
}
`;

/** The grid of {@linkcode flatWgsl}. */
export const flatGrid = (count: number): Grid => spread(Math.ceil(count / flatLanes));
