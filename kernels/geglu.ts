import { ShapeError } from "../engine/errors.ts";
import { declareKernel, input, output, spread } from "../engine/kernel.ts";
import { Tensor } from "../engine/tensor.ts";
import { activationWgsl } from "./activation.ts";

const gegluKernel = declareKernel({
  name: "geglu",
  bindings: { x: input(4), y: output(4) },
  params: { rows: "u32", quads: "u32" },
  constants: ["ACTIVATION"],
  wgsl: (constants) =>
    activationWgsl(constants) + /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 64u + lane;
  if (i >= params.rows * params.quads) { return; }
  let at = i / params.quads * 2u * params.quads + i % params.quads;
  y_put(i, x_at(at) * activate(x_at(at + params.quads)));
}`,
  grid: ({ rows, quads }) => spread(Math.ceil(rows * quads / 64)),
  cost: ({ rows, quads }) => ({ flops: rows * quads * 4 * 20, bytes: rows * quads * 48 }),
});

/**
 * GEGLU (2002.05202): the first half of the last axis times GELU of the second.
 *
 * @param x [..., 2N], N divisible by 4
 * @returns [..., N]
 * @throws {ShapeError} when the last axis does not divide by 8
 */
export function geglu(x: Tensor): Tensor {
  const width = x.shape.at(-1) ?? 0;
  if (width % 8 !== 0) {
    throw new ShapeError(`Cannot gate [${x.shape.join(", ")}] as its last axis must divide by 8: ${width}`, [x.shape]);
  }
  const y = Tensor.empty(x.gpu, [...x.shape.slice(0, -1), width / 2]);
  gegluKernel.run(x.gpu, { x, y }, { rows: y.size / (width / 2 || 1), quads: width / 8 }, { ACTIVATION: 2 });
  return y;
}
