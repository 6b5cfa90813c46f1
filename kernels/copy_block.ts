import { declareKernel, input, output, spread } from "../engine/kernel.ts";
import type { Tensor } from "../engine/tensor.ts";

/** Copies rows of `length` numbers from one stride to another: what slicing and concatenating are made of. */
const copyKernel = declareKernel({
  name: "copy_block",
  bindings: { x: input("LANES"), y: output("LANES") },
  params: { rows: "u32", length: "u32", x_start: "u32", x_stride: "u32", y_start: "u32", y_stride: "u32" },
  constants: ["LANES"],
  wgsl: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 64u + lane;
  if (i >= params.rows * params.length) { return; }
  let row = i / params.length;
  let at = i % params.length;
  y_put(params.y_start + row * params.y_stride + at, x_at(params.x_start + row * params.x_stride + at));
}`,
  grid: ({ rows, length }) => spread(Math.ceil(rows * length / 64)),
  cost: ({ rows, length }, { LANES }) => ({ flops: 0, bytes: 8 * rows * length * (LANES as number) }),
});

/** Where a block of rows lies in a tensor; all numbers count elements. */
export interface Block {
  readonly tensor: Tensor;
  readonly start: number;
  readonly stride: number;
}

/** Copies `rows` rows of `length` elements. In fours, where everything divides. */
export function copyBlock(from: Block, to: Block, { rows, length }: { rows: number; length: number }): void {
  const lanes = [length, from.start, from.stride, to.start, to.stride].every((n) => n % 4 === 0) ? 4 : 1;
  copyKernel.run(
    to.tensor.gpu,
    { x: from.tensor, y: to.tensor },
    {
      rows,
      length: length / lanes,
      x_start: from.start / lanes,
      x_stride: from.stride / lanes,
      y_start: to.start / lanes,
      y_stride: to.stride / lanes,
    },
    { LANES: lanes },
  );
}
